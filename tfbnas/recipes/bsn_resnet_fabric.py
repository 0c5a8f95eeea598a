"""Searches which blocks and links of a ResNet Fabric to keep under a budget, retrains what is left, and exports it.

Paper: Veniat & Denoyer, "Learning Time/Memory-Efficient Deep Architectures with Budgeted Super Networks", CVPR 2018.
"""

from tfbnas.quiet import import_tensorflow
from tfbnas.recipes.bsn_settings import FabricRecipe
from tfbnas.recipes.settings import Command, run_main


def main(command: Command[FabricRecipe]) -> None:
    """Runs all stages."""
    import_tensorflow()
    from tfbnas.recipes import bsn  # late: `--help` does without TensorFlow

    bsn.run(command)


if __name__ == "__main__":
    run_main(main, FabricRecipe, recipe="bsn_resnet_fabric", description=__doc__ or "")
