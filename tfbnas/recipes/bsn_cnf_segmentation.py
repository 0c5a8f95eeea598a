"""Searches which convolutions of a fabric that classifies every pixel to keep under a budget, retrains and exports it.

Paper: Veniat & Denoyer, "Learning Time/Memory-Efficient Deep Architectures with Budgeted Super Networks", CVPR 2018.
"""

from tfbnas.quiet import import_tensorflow
from tfbnas.recipes.bsn_settings import SegmentationRecipe
from tfbnas.recipes.settings import Command, run_main


def main(command: Command[SegmentationRecipe]) -> None:
    """Runs all stages."""
    import_tensorflow()
    from tfbnas.recipes import bsn  # late: `--help` does without TensorFlow

    bsn.run(command)


if __name__ == "__main__":
    run_main(main, SegmentationRecipe, recipe="bsn_cnf_segmentation", description=__doc__ or "")
