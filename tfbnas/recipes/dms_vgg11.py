"""Searches the widths of a binary VGG-11 under a memory budget, retrains it, and exports it for ARM.

Paper: "DMS: Differentiable Dimension Search for Binary Neural Networks".
"""

from tfbnas.quiet import import_tensorflow
from tfbnas.recipes.dms_settings import Settings
from tfbnas.recipes.settings import Command, run_main


def main(command: Command[Settings]) -> None:
    """Runs all stages."""
    import_tensorflow()
    from tfbnas.recipes import dms  # late: `--help` does without TensorFlow

    dms.run(command, "vgg11")


if __name__ == "__main__":
    run_main(main, Settings, recipe="dms_vgg11", description=__doc__ or "")
