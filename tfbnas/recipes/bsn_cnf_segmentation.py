"""Searches which convolutions of a fabric that classifies every pixel to keep under a budget, retrains and exports it.

Paper: Veniat & Denoyer, "Learning Time/Memory-Efficient Deep Architectures with Budgeted Super Networks", CVPR 2018.
"""

from tfbnas.recipes.recipe import Recipe

RECIPE = Recipe("bsn_cnf_segmentation", __doc__ or "")

if __name__ == "__main__":
    RECIPE.main()
