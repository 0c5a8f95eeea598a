"""Search the widths of a binary VGG-11 under a memory budget, retrain it, and export it for ARM.

Paper: "DMS: Differentiable Dimension Search for Binary Neural Networks".
"""

from tfbnas.recipes.settings import run_main

if __name__ == "__main__":
    from tfbnas.recipes import dms

    run_main(lambda command: dms.run(command, "vgg11"), dms.Settings, recipe="dms_vgg11", description=__doc__)
