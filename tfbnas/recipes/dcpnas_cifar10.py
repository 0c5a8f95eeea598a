"""Searches cells for a binary network along the tangent of its real-valued parent, retrains what came out, exports it.

Paper: Li et al., "DCP-NAS: Discrepant Child-Parent Neural Architecture Search for 1-bit CNNs", IJCV 2023.
"""

from tfbnas.recipes.recipe import Recipe

RECIPE = Recipe("dcpnas_cifar10", __doc__ or "")

if __name__ == "__main__":
    RECIPE.main()
