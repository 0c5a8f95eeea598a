"""Searches which blocks and links of a ResNet Fabric to keep under a budget, retrains what is left, and exports it.

Paper: Veniat & Denoyer, "Learning Time/Memory-Efficient Deep Architectures with Budgeted Super Networks", CVPR 2018.
"""

from tfbnas.quiet import captured
from tfbnas.recipes.bsn_settings import Settings
from tfbnas.recipes.settings import Command, run_main


def main(command: Command[Settings]) -> None:
    """Runs all stages."""
    with captured():  # what TensorFlow prints when it is imported on a machine without GPU
        from tfbnas.recipes import bsn

    bsn.run(command)


if __name__ == "__main__":
    run_main(main, Settings, recipe="bsn_resnet_fabric", description=__doc__ or "")
