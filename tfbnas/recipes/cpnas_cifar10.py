"""Searches cells for a binary network by its agreement with its real-valued parent, retrains it, and exports it.

Paper: Zhuo et al., "CP-NAS: Child-Parent Neural Architecture Search for 1-bit CNNs", IJCAI 2020.
"""

from tfbnas.recipes.recipe import Recipe

RECIPE = Recipe("cpnas_cifar10", __doc__ or "")

if __name__ == "__main__":
    RECIPE.main()
