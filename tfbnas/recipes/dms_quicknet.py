"""Searches the widths of QuickNet under a budget on predicted latency, retrains it, and exports it for ARM.

Papers: "DMS: Differentiable Dimension Search for Binary Neural Networks"; Bannink et al., "Larq Compute Engine: Design,
Benchmark, and Deploy State-of-the-Art Binarized Neural Networks", MLSys 2021.
"""

from tfbnas.recipes.recipe import Recipe

RECIPE = Recipe("dms_quicknet", __doc__ or "")

if __name__ == "__main__":
    RECIPE.main()
