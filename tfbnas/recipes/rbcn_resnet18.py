"""Trains a ResNet-18 of rectified binary convolutions against a teacher in full precision, and exports it for ARM.

Paper: Liu et al., "Rectified Binary Convolutional Networks with Generative Adversarial Learning", IJCV 2021. Nothing is
searched. Discriminators compare the feature maps of both networks; batch normalisation alone is trained in the end.
"""

from tfbnas.recipes.recipe import Recipe

RECIPE = Recipe("rbcn_resnet18", __doc__ or "", searches=False)

if __name__ == "__main__":
    RECIPE.main()
