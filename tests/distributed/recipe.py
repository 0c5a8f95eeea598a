"""A recipe on random images, search and training only, with the arguments of any recipe: `recipe.py [ARGUMENT ...]`."""

from tfbnas.quiet import import_tensorflow
from tfbnas.recipes.recipe import Recipe
from tfbnas.recipes.settings import run_main

RECIPE = Recipe("dms_vgg11", __doc__ or "")


def main(command) -> None:
    import_tensorflow()
    import numpy as np
    from losses import CLASSES, SHAPE, chain

    from tfbnas import data
    from tfbnas.architecture import Architecture
    from tfbnas.networks import register
    from tfbnas.recipes import runner
    from tfbnas.recipes.devices import together
    from tfbnas.recipes.searching import search_stage
    from tfbnas.recipes.training import Training, train_stage

    register("chain", chain)
    with together(command.settings) as devices:
        chance = np.random.default_rng(0)
        images = data.MemorySplit(
            chance.integers(0, 256, (64, *SHAPE)).astype(np.uint8), np.arange(64) % CLASSES, name="noise"
        )
        images = data.ImageData("noise", SHAPE, CLASSES, list("abcd"), images, images)
        template = Architecture("dms", "chain", {}, SHAPE, CLASSES)
        with runner.open_run(command, RECIPE.method, images, template, devices) as context:
            found = Architecture.from_dict(search_stage(context).architecture)
            train_stage(context, Training("searched", "DMS", "searched", 0, lambda: found))


if __name__ == "__main__":
    run_main(main, RECIPE.settings_class, recipe=RECIPE.name, description=RECIPE.description)
