"""Searches which blocks and links of a ResNet Fabric to keep under a budget, retrains what is left, and exports it.

Paper: Veniat & Denoyer, "Learning Time/Memory-Efficient Deep Architectures with Budgeted Super Networks", CVPR 2018.
"""

from tfbnas.recipes.recipe import Recipe

RECIPE = Recipe("bsn_resnet_fabric", __doc__ or "")

if __name__ == "__main__":
    RECIPE.main()
