"""Searches the blocks of QuickNet to keep under a budget on predicted latency, retrains it, and exports it for ARM.

Papers: Veniat & Denoyer, "Learning Time/Memory-Efficient Deep Architectures with Budgeted Super Networks", CVPR 2018;
Bannink et al., "Larq Compute Engine: Design, Benchmark, and Deploy State-of-the-Art Binarized Neural Networks", MLSys
2021.
"""

from tfbnas.recipes.recipe import Recipe

RECIPE = Recipe("bsn_quicknet", __doc__ or "", family="quicknet_blocks")

if __name__ == "__main__":
    RECIPE.main()
