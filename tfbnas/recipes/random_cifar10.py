"""Draws random cells within a budget, trains each briefly, retrains the best, and exports it.

The control for every search of cells: Li & Talwalkar, "Random Search and Reproducibility for Neural Architecture
Search", UAI 2019.
"""

from tfbnas.recipes.recipe import Recipe

RECIPE = Recipe("random_cifar10", __doc__ or "")

if __name__ == "__main__":
    RECIPE.main()
