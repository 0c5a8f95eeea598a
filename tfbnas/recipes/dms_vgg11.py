"""Searches the widths of a binary VGG-11 under a memory budget, retrains it, and exports it for ARM.

Paper: "DMS: Differentiable Dimension Search for Binary Neural Networks".
"""

from tfbnas.recipes.recipe import Recipe

RECIPE = Recipe("dms_vgg11", __doc__ or "")

if __name__ == "__main__":
    RECIPE.main()
