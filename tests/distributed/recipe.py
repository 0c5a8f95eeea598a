"""A recipe on random images, search and training only, with the arguments of any recipe: `recipe.py [ARGUMENT ...]`."""

from tfbnas.quiet import import_tensorflow
from tfbnas.recipes.dms_settings import Settings
from tfbnas.recipes.settings import run_main


def main(command) -> None:
    import_tensorflow()
    import numpy as np
    from losses import CLASSES, SHAPE, chain

    from tfbnas import data
    from tfbnas.architecture import Architecture
    from tfbnas.networks import register
    from tfbnas.recipes import devices, dms, stages

    register("chain", chain)
    settings = command.settings
    with devices.together(settings):
        chance = np.random.default_rng(0)
        images = data.MemorySplit(
            chance.integers(0, 256, (64, *SHAPE)).astype(np.uint8), np.arange(64) % CLASSES, name="noise"
        )
        images = data.ImageData("noise", SHAPE, CLASSES, list("abcd"), images, images)
        with stages.open_run(command) as run:
            found = dms.search_stage(run, "search", "chain", images, settings)
            what = Architecture.from_dict(found["architecture"])
            stages.train_stage(
                run, "searched", "DMS", lambda: what, images, settings.train, precision="float32", seed=settings.seed
            )


if __name__ == "__main__":
    run_main(main, Settings, recipe="dms_vgg11", description=__doc__ or "")
