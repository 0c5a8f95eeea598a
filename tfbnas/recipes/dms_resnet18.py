"""Search the widths of a binary ResNet-18 under a memory budget, retrain it, and export it for ARM.

Paper: "DMS: Differentiable Dimension Search for Binary Neural Networks".
"""

from tfbnas.recipes.settings import run_main

if __name__ == "__main__":
    from tfbnas.recipes import dms

    run_main(lambda command: dms.run(command, "resnet18"), dms.Settings, recipe="dms_resnet18", description=__doc__)
