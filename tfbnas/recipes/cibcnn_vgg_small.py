"""Searches interactions between the channels of a binary VGG-small under a budget, retrains it, and exports it.

Paper: Wang et al., "Learning Channel-wise Interactions for Binary Convolutional Neural Networks", CVPR 2019.
"""

from tfbnas.recipes.recipe import Recipe

RECIPE = Recipe("cibcnn_vgg_small", __doc__ or "")

if __name__ == "__main__":
    RECIPE.main()
