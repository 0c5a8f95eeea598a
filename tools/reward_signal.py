"""The reward of channel interactions against its noise: what single edges do to the loss of a network that is searched.

    python tools/reward_signal.py [--recipe cibcnn_resnet20] [--preset quick] [--edges 96] [--batches 16]
                                  [--json OUT.json] [any setting of the recipe, for instance --search.epochs 3]

Searches by the preset, then measures edges one at a time on batches of training images, as many as a reward sees:

- added: random pairs that are no edge, with random influences, put into the graph that was found;
- best: of all that could be added, those that help most by the gradient of the loss on as many other batches;
- kept: edges of the graph, against the graph without them.

The usefulness of an edge is the loss without it less the loss with it; the gradient's estimate of it stands beside. Its
noise is how much that differs from batch to batch. The spread of the edges is what is left of their variance when that
of the noise is taken away. An edge helps, or hurts, if its mean is more than two standard errors away from 0; of edges
that do nothing, 2.3 % would seem to help.

Then: how often a reward measured on so many images is not 0, and how often its sign is that of the mean over the other
half of the batches, which it has not seen; half of them are right by chance. At last correlations over the added edges.
"""

from __future__ import annotations

import quietly  # noqa: F401  # isort: skip  (before TensorFlow)
import argparse
import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import turns

from tfbnas import data, precision
from tfbnas.architecture import Architecture
from tfbnas.files import write_json
from tfbnas.layers.interaction import InteractedConv2D
from tfbnas.recipes.pricing import budgets
from tfbnas.recipes.recipe import Recipe
from tfbnas.recipes.settings import parse, preset_files
from tfbnas.search.cibcnn import CIBCNN
from tfbnas.search.interactions import confidence
from tfbnas.search.losses import loss_of_each

Edge = tuple[int, ...]
"""Layer, block, teacher and student in the block, influence."""


def make_search(settings: Any, images: data.ImageData) -> CIBCNN:
    """The search of the settings, compiled."""
    tf.keras.utils.set_random_seed(settings.seed)
    own = settings.network
    template = Architecture("cibcnn", own.family, {}, images.input_shape, images.classes, own.builder_options())
    with precision.precision(precision.resolve(settings.precision)):
        search = CIBCNN(
            template.network,
            budget=list(budgets(settings.budget).values()),
            input_shape=template.input_shape,
            classes=template.classes,
            options=dict(template.options),
            seed=settings.seed,
            settings=settings.search,
        )
    search.compile(**search.optimizers(images.train))
    return search


def added(search: CIBCNN, count: int, random: np.random.Generator) -> list[Edge]:
    """Edges that there are not, evenly over the layers, with influences of all kinds."""
    free = search.blocks.allowed() & (search.graphs.numpy() == 0)
    found: list[Edge] = []
    sizes = [sign * size for size in range(3, 2 * search.policy.levels + 2, 2) for sign in (1, -1)]
    for number in range(count):
        layer = number % len(free)
        block, teacher, student = random.choice(np.argwhere(free[layer]))
        found.append((layer, int(block), int(teacher), int(student), int(random.choice(sizes))))
    return found


def gradients(search: CIBCNN, batches: Sequence[tuple]) -> np.ndarray:
    """How the loss rises with an edge of influence 3, 5, .. by its gradient, `[levels, layers, blocks, size, size]`.

    A layer adds its staircases times weights, one for each teacher, size of influence and student, that are the signs
    of its edges. The loss's gradient by all these weights takes one backward pass.
    """
    layers = [layer for layer in search.network.layers if isinstance(layer, InteractedConv2D)]
    seen: dict[str, tf.Tensor] = {}

    def watched(layer: InteractedConv2D, tape: tf.GradientTape) -> Callable[..., tuple[tf.Tensor, tf.Tensor]]:
        def of_all(*arguments: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            features, weights = type(layer)._of_all(layer, *arguments)
            tape.watch(weights)
            seen[layer.name] = weights
            return features, weights

        return of_all

    @tf.function
    def slopes(images: tf.Tensor, labels: tf.Tensor) -> list[tf.Tensor]:
        with search._with(search.graphs.value()), tf.GradientTape() as tape:
            for layer in layers:
                setattr(layer, "_of_all", watched(layer, tape))  # noqa: B010  (a method, for this pass only)
            loss = tf.reduce_mean(loss_of_each(search.loss, labels, search.network(images, training=True)))
        for layer in layers:
            del layer._of_all
        return tape.gradient(loss, [seen[layer.name] for layer in layers])

    with unchanged(search):
        means = [np.mean(rows, axis=0) for rows in zip(*(slopes(*batch) for batch in batches), strict=True)]
    levels = search.policy.levels
    parts = [mean.reshape(levels, *mean.shape[1:] * 2) for mean in means]
    return np.stack([search.blocks.of_matrices([part[level] for part in parts]) for level in range(levels)])


def estimates(slopes: np.ndarray, edges: Sequence[Edge]) -> np.ndarray:
    """Usefulness of edges by what `gradients` gives."""
    return np.array([-np.sign(k) * slopes[(abs(k) - 3) // 2, i, b, t, s] for i, b, t, s, k in edges])


def best(search: CIBCNN, slopes: np.ndarray, count: int) -> list[Edge]:
    """Edges that there are not and that the gradient says help most, each of another pair."""
    free = search.blocks.allowed() & (search.graphs.numpy() == 0)
    size = np.abs(slopes).argmax(axis=0)
    largest = np.where(free, np.abs(slopes).max(axis=0), -1.0)
    places = np.argsort(-largest, axis=None)[:count]
    found = []
    for place in zip(*np.unravel_index(places, largest.shape), strict=True):
        sign = -np.sign(slopes[size[place]][place])
        found.append((*map(int, place), int(sign * (2 * size[place] + 3))))
    return found


@contextlib.contextmanager
def unchanged(search: CIBCNN) -> Iterator[None]:
    """Puts the averages of batch normalisation back."""
    statistics = [(variable, variable.numpy()) for variable in search.network.non_trainable_variables]
    yield
    for variable, value in statistics:
        variable.assign(value)


def kept(search: CIBCNN, count: int, random: np.random.Generator) -> list[Edge]:
    """Edges that there are, at most so many."""
    graphs = search.graphs.numpy()
    places = random.permutation(np.argwhere(graphs))[:count]
    return [(*map(int, place), int(graphs[tuple(place)])) for place in places]


def usefulness(search: CIBCNN, edges: Sequence[Edge], batches: Sequence[tuple]) -> tuple[np.ndarray, np.ndarray]:
    """Loss without each edge less the loss with it, `[edges, batches]`; and the loss of the present graph, `[batches]`.

    Batch normalisation goes by the batch, as in the search's rewards; its averages are put back.
    """
    loss = tf.function(search._loss)
    present = search.graphs.numpy()

    def of(graphs: np.ndarray) -> np.ndarray:
        return np.array([float(loss(tf.constant(graphs), *batch)) for batch in batches])

    with unchanged(search):
        now, found = of(present), []
        for *place, influence in edges:
            other = present.copy()
            other[tuple(place)] = influence if present[tuple(place)] == 0 else 0
            found.append(now - of(other) if present[tuple(place)] == 0 else of(other) - now)
    return np.array(found), now


def signal(changes: np.ndarray) -> dict[str, float]:
    """What the usefulness of edges `[edges, batches]` says of signal and noise."""
    count = changes.shape[1]
    means, noise = changes.mean(1), changes.var(1, ddof=1).mean()
    errors = changes.std(1, ddof=1) / np.sqrt(count)
    return {
        "edges": len(changes),
        "mean": means.mean(),
        "spread": float(np.sqrt(max(0.0, means.var(ddof=1) - noise / count))),
        "noise": float(np.sqrt(noise)),
        "help": float((means > 2 * errors).mean()),
        "hurt": float((means < -2 * errors).mean()),
    }


def rewards(changes: np.ndarray, together: int, threshold: float) -> dict[str, float]:
    """How often a reward on `together` batches is not 0, and is right then, of usefulness `[edges, batches]`."""
    half = changes.shape[1] // 2
    shares, right = [], []
    for seen, unseen in ((changes[:, :half], changes[:, half:]), (changes[:, half:], changes[:, :half])):
        groups = seen[:, : half // together * together].reshape(len(changes), -1, together).mean(2)
        paid = np.abs(groups) > threshold
        shares.append(paid.mean())
        right += list((np.sign(groups) == np.sign(unseen.mean(1))[:, None])[paid])
    return {"not 0": float(np.mean(shares)), "right": float(np.mean(right)) if right else float("nan")}


def features(search: CIBCNN, edges: Sequence[Edge], images: tf.Tensor) -> dict[str, np.ndarray]:
    """What is known of edges without trying them: what the policy and the confidence go by."""
    counts: dict[str, tf.Tensor] = {}
    for name, graph in search.opened.items():
        graph.watch = lambda seen, name=name: counts.update({name: seen})
    with search._with(search.graphs.value()):
        search.network(images, training=False)
    for graph in search.opened.values():
        graph.watch = None
    blocks, size = search.blocks.shape[1:3]
    sure = np.stack([confidence(counts[name], blocks, size).numpy() for name in search.opened])
    rows = [np.abs(counts[name].numpy()).reshape(-1, counts[name].shape[-1]) for name in search.opened]
    strong = [row.mean(0) / np.sqrt((row**2).mean()) for row in rows]
    creation, _, weights = (values.numpy()[0] for values in search.policy(search.graphs.value()[None]))
    pairs = search.blocks.allowed().sum(axis=(1, 2, 3))
    shape = search.blocks.shape
    likely = creation.reshape(shape) + np.log(pairs)[:, None, None, None]
    wished = weights.reshape(shape)
    places = [tuple(edge[:4]) for edge in edges]
    return {
        "mean |p_t| of the teacher": np.array([strong[i][b * size + t] for i, b, t, _ in places]),
        "confidence sign(|p_t| - |p_s|)": np.array([sure[place] for place in places]),
        "log probability of creation": np.array([likely[place] for place in places]),
        "influence as the policy's": np.array([np.sign(wished[e[:4]] * e[4]) for e in edges]),
        "size of the influence": np.array([abs(edge[4]) for edge in edges], float),
        "sign of the influence": np.array([np.sign(edge[4]) for edge in edges], float),
    }


def correlations(changes: np.ndarray, known: dict[str, np.ndarray]) -> dict[str, float | None]:
    """Of mean usefulness with each feature; None where all edges have the same."""
    means = changes.mean(1)
    return {
        name: float(np.corrcoef(means, own)[0, 1]) if np.std(own) > 0 and np.std(means) > 0 else None
        for name, own in known.items()
    }


def main() -> None:
    """Searches, measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="cibcnn_resnet20", help="(default: cibcnn_resnet20)")
    parser.add_argument("--preset", default="quick", help="(default: quick)")
    parser.add_argument("--edges", type=int, default=96, help="of each kind (default: 96)")
    parser.add_argument("--batches", type=int, default=16, help="on which each is measured (default: 16)")
    parser.add_argument("--json", type=Path, help="file for the result")
    arguments, others = parser.parse_known_args()
    if arguments.edges < 2 or arguments.batches < 4:
        parser.error("expected at least 2 --edges and 4 --batches")
    known: Any = {"description": "", "presets": preset_files(arguments.recipe)}
    program = f"python -m tfbnas.recipes.{arguments.recipe}"
    argv = ["--preset", arguments.preset, *others]
    settings: Any = parse(Recipe(arguments.recipe).settings_class, argv, program=program, **known).settings
    own = {name: value for name, value in vars(settings.data).items() if name != "held_out"}
    images = data.load(**own)
    search = make_search(settings, images)
    history = search.fit(images.train, verbose=False).history
    seen = settings.search.reward_images or settings.search.batch_size
    batches = list(images.train.epoch(10**6, seen, seed=settings.seed, augment=True).take(arguments.batches))
    random = np.random.default_rng(settings.seed)
    apart = list(images.train.epoch(10**6 + 1, seen, seed=settings.seed, augment=True).take(arguments.batches))
    slopes = gradients(search, apart)
    kinds = {
        "added": added(search, arguments.edges, random),
        "best": best(search, slopes, arguments.edges),
        "kept": kept(search, arguments.edges, random),
    }
    changes, rows = {}, []
    for kind, edges in kinds.items():
        if len(edges) > 1:
            changes[kind], loss = usefulness(search, edges, batches)
            rows.append({"kind": kind, "estimate": estimates(slopes, edges).mean(), **signal(changes[kind])})
    print(
        f"{arguments.recipe} {arguments.preset}, seed {settings.seed}: {settings.search.epochs} epochs, reward "
        f"{history['reward'][-1]:.3f} in the last; {np.count_nonzero(search.graphs)} edges; loss {loss.mean():.3f}; "
        f"{len(batches)} batches of {seen} images"
    )
    forms = {
        "kind": "",
        "edges": "",
        **dict.fromkeys(("estimate", "mean", "spread", "noise"), ".5f"),
        "help": ".1%",
        "hurt": ".1%",
    }
    print(turns.table({name: turns.column(rows, name, form) for name, form in forms.items()}))
    sizes = [2**i for i in range(10) if 2**i <= len(batches) // 2]
    threshold = settings.search.loss_threshold
    paid = [
        {"images": seen * size, "threshold": h, **rewards(changes["added"], size, h)}
        for h in (threshold, 0.0)
        for size in sizes
    ]
    forms = {"images": "", "threshold": "", "not 0": ".1%", "right": ".1%"}
    print(f"\n{turns.table({name: turns.column(paid, name, form) for name, form in forms.items()})}")
    about = {"the gradient's estimate": estimates(slopes, kinds["added"])}
    about |= features(search, kinds["added"], batches[0][0])
    found = correlations(changes["added"], about)
    shown = turns.column([{"r": value} for value in found.values()], "r", ".2f")
    print(f"\n{turns.table({'usefulness with': list(found), 'correlation': shown})}")
    if arguments.json:
        write_json(arguments.json, {"signal": rows, "rewards": paid, "correlations": found})


if __name__ == "__main__":
    main()
