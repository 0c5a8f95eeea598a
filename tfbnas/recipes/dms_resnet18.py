"""Searches the widths of a binary ResNet-18 under a memory budget, retrains it, and exports it for ARM.

Paper: "DMS: Differentiable Dimension Search for Binary Neural Networks".
"""

from tfbnas.recipes.recipe import Recipe

RECIPE = Recipe("dms_resnet18", __doc__ or "")

if __name__ == "__main__":
    RECIPE.main()
