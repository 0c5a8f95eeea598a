"""Searches interactions between the channels of a binary ResNet-18 under a budget, retrains it, and exports it.

Paper: Wang et al., "Learning Channel-wise Interactions for Binary Convolutional Neural Networks", CVPR 2019.
"""

from tfbnas.recipes.recipe import Recipe

RECIPE = Recipe("cibcnn_resnet18", __doc__ or "", family="resnet18_interactions")

if __name__ == "__main__":
    RECIPE.main()
