"""Prunes the filters of a binary ResNet-18 to a budget, fine-tunes what is left, and exports it for ARM.

Paper: Liu et al., "Rectified Binary Convolutional Networks with Generative Adversarial Learning", IJCV 2021. The
network is trained first, or --search.start names the run of `rbcn_resnet18` (with the same network) that trained it.
"""

from tfbnas.recipes.recipe import Recipe

RECIPE = Recipe("rbcn_prune_resnet18", __doc__ or "", family="resnet18")

if __name__ == "__main__":
    RECIPE.main()
