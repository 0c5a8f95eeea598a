"""Prunes the filters of your own Larq model to a budget, fine-tunes what is left, and exports it for ARM.

--network.model names its Keras file. Paper: Liu et al., "Rectified Binary Convolutional Networks with Generative
Adversarial Learning", IJCV 2021.
"""

from tfbnas.recipes.recipe import Recipe

RECIPE = Recipe("rbcn_prune", __doc__ or "", family="keras_model")

if __name__ == "__main__":
    RECIPE.main()
