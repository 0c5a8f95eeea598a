"""What a DMS search costs beside plain training of its widest candidate network.

    python tools/benchmark_search.py [--precision float32 bfloat16] [--repetitions 15] [--rounds 50]
                                     [--candidates 3 9 27 1000] [--json OUT.json] [--tiny]

1. Traces and memory of the process, round for round, of a network on few images whose widths keep changing.
2. Steps: of the weights and of the architecture, as `fit` takes them at the start of the preset `cpu` of dms_resnet18.
3. A round of that preset: what it spends on anything but steps, with what the first steps after new widths take longer.
4. One width with more and more candidates, beside a DARTS-like sum over all of them (see search_candidates.py).

All that is compared takes turns in one process, so that ratios hold on a busy machine, too.
"""

from __future__ import annotations

import quietly  # noqa: F401  # isort: skip  (before TensorFlow)
import argparse
import functools
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import turns
from search_candidates import dms_step, sum_step
from training_variants import MOMENTUM, RATE, Step, Task, keras_step

from tfbnas import training
from tfbnas.architecture import Architecture
from tfbnas.costs import MIB, Budget, Memory
from tfbnas.files import write_json
from tfbnas.precision import precision as in_precision
from tfbnas.recipes.recipe import Recipe
from tfbnas.recipes.settings import parse, preset_files
from tfbnas.search.batches import ARCHITECTURE, WEIGHTS
from tfbnas.search.dms import DMS
from tfbnas.search.dms_rounds import Rounds

RECIPE = "dms_resnet18"
TRAINING_IMAGES = 50_000
SUMS = 27
"""Candidates up to which the sum is measured: beyond, a step of it takes minutes."""


def make_search(settings: Any, task: Task, precision: str) -> DMS:
    """A search with the distribution of the settings. Its architecture steps leave mu where it is."""
    own, network = settings.search, task.architecture
    with in_precision(precision):
        search = DMS(
            network.network,
            budget=Budget(Memory(), settings.budget.memory * MIB),
            input_shape=network.input_shape,
            classes=network.classes,
            options=dict(network.options),
            settings=own,
        )
    optimizer = tf.keras.optimizers.SGD(RATE, momentum=MOMENTUM, weight_decay=own.weight_decay)
    search.compile(optimizer, tf.keras.optimizers.Adam(0.0))
    return search


def widest(search: DMS, task: Task) -> Architecture:
    """The network of the widest candidates, closed."""
    choices = dict(zip([w.name for w in search.widths], search.channels.numpy()[:, -1].tolist(), strict=True))
    return replace(task.architecture, choices=choices)


def gradient_step(model: tf.keras.Model, variables: Sequence[tf.Variable], task: Task) -> Step:
    """Forward and backward to the given variables, without an update."""
    loss_of = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    @tf.function
    def step(images, labels):
        with tf.GradientTape() as tape:
            loss = loss_of(labels, model(images, training=True))
        gradients = tape.gradient(loss, variables)
        return loss + 0.0 * tf.add_n([tf.reshape(gradient, [-1])[0] for gradient in gradients])

    images, labels = map(tf.constant, task.arrays())
    return lambda: float(step(images, labels))


def compare_steps(search: DMS, task: Task, precision: str, repetitions: int) -> list[dict[str, Any]]:
    """Both steps of the search beside those of the widest network."""
    model = training.trainable(widest(search, task), precision=precision)
    training.compile_for_training(model, learning_rate=RATE, momentum=MOMENTUM)
    scales = [variable for variable in model.trainable_variables if "gamma" in variable.name]
    batch = task.arrays()
    steps = {
        "training step": keras_step(model, batch),
        "weights step": keras_step(search, (WEIGHTS, *batch)),
        "forward and backward": gradient_step(model, model.trainable_variables, task),
        "the same, by the scales alone": gradient_step(model, scales, task),
        "architecture step": keras_step(search, (ARCHITECTURE, *batch)),
    }
    seconds = dict(zip(steps, turns.median_seconds(list(steps.values()), repetitions), strict=True))
    beside = {"weights step": "training step", "architecture step": "forward and backward"}
    return [
        {
            "precision": precision,
            "step": name,
            "milliseconds": 1e3 * seconds[name],
            "ratio": seconds[name] / seconds[beside[name]] if name in beside else None,
        }
        for name in steps
    ]


def round_overhead(search: DMS, settings: Any, task: Task, precision: str) -> dict[str, Any]:
    """Milliseconds of what a round takes beside its steps, and its share of a round."""
    own = settings.search
    batch, random = task.arrays(), np.random.default_rng(0)
    steps = [keras_step(search, (phase, *batch)) for phase in (WEIGHTS, ARCHITECTURE)]
    length = TRAINING_IMAGES // 2 // task.batch
    counts = [own.weight_epochs * length, own.architecture_steps or length]
    between = Rounds(own.rounds, length, own.weight_epochs)
    between.set_model(search)
    rows = []
    for index in range(own.rounds):
        begin = _seconds(functools.partial(between.on_epoch_begin, index))
        first, second, third = [[_seconds(step) for step in steps] for _ in range(3)]
        usual = [min(pair) for pair in zip(second, third, strict=True)]
        # Drifts as far as in a search: without it, widths would only shrink.
        search.mu.assign(search._bounded(search.mu + 0.3 * random.normal(size=search.mu.shape)))
        end = _seconds(functools.partial(between.on_epoch_end, index, {}))
        late = sum(max(0.0, a - b) for a, b in zip(first, usual, strict=True))
        rows.append((begin + end, late, sum(n * s for n, s in zip(counts, usual, strict=True))))
    # In the first round everything is traced for the first time, as it is in any training.
    work, late, stepping = np.median(rows[1:], axis=0)
    return {
        "precision": precision,
        "between_steps": 1e3 * work,
        "slower_first_steps": 1e3 * late,
        "steps": 1e3 * stepping,
        "share": (work + late) / (work + late + stepping),
    }


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


class Watch(tf.keras.callbacks.Callback):
    """Traces of the train function and MiB of the process at the end of each round; then mu jumps about its start."""

    def __init__(self):
        super().__init__()
        self.rows: list[dict[str, Any]] = []
        self.random = np.random.default_rng(0)

    def on_train_begin(self, logs=None):
        self.start = self.model.mu.numpy()

    def on_epoch_end(self, epoch, logs=None):
        traces = self.model.train_tf_function.experimental_get_tracing_count()
        channels = int(self.model.channels.numpy()[:, -1].sum())
        self.rows.append({"round": epoch + 1, "traces": traces, "memory": turns.memory(), "channels": channels})
        self.model.mu.assign(self.start * self.random.uniform(0.8, 1.25, self.start.shape))


def watch_rounds(settings: Any, task: Task, rounds: int) -> list[dict[str, Any]]:
    """One row for each round of a search of two steps of each kind a round, in which widths grow and shrink."""
    final = settings.search.final_sigma
    own = replace(settings.search, initial_sigma=final, rounds=rounds, weight_epochs=1)
    settings = replace(settings, search=own)
    search = make_search(settings, task, "float32")
    batches = tf.data.Dataset.from_tensors(task.arrays()).repeat(2)
    watch = Watch()
    search.fit(batches, batches, callbacks=[watch], verbose=False)
    return watch.rows


def compare_candidates(
    counts: Sequence[int], widest: int, batch: int, size: int, repetitions: int
) -> list[dict[str, Any]]:
    """A step of DMS and of the sum for each number of candidates, and what they take of DMS's first."""
    given: Any = {"batch": batch, "size": size, "precision": "float32"}
    sums = [count for count in counts if count <= SUMS]
    steps = [dms_step(count, widest, **given) for count in counts] + [
        sum_step(count, widest, **given) for count in sums
    ]
    seconds = turns.median_seconds(steps, repetitions)
    rows = [("DMS", count) for count in counts] + [("sum", count) for count in sums]
    return [
        {"method": method, "candidates": count, "milliseconds": 1e3 * own, "ratio": own / seconds[0]}
        for (method, count), own in zip(rows, seconds, strict=True)
    ]


COLUMNS = {
    "steps": {"step": "", "precision": "", "milliseconds": ".1f", "ratio": ".2f"},
    "rounds": {"precision": "", "between_steps": ".1f", "slower_first_steps": ".1f", "steps": ".1f", "share": ".2%"},
    "watched": {"round": "", "channels": "", "traces": "", "memory": ".1f"},
    "candidates": {"method": "", "candidates": "", "milliseconds": ".1f", "ratio": ".2f"},
}


def show(part: str, rows: Sequence[dict[str, Any]]) -> None:
    """Prints a part's table: times are milliseconds, memory is MiB."""
    columns = {key.replace("_", " "): turns.column(rows, key, form) for key, form in COLUMNS[part].items()}
    print(f"\n{turns.table(columns)}", flush=True)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    formats = ("float32", "bfloat16")
    parser.add_argument("--precision", nargs="+", choices=formats, default=formats, help="of 2. and 3. (default: both)")
    parser.add_argument("--repetitions", type=int, default=15, help="steps of which the median is taken (default: 15)")
    parser.add_argument("--rounds", type=int, default=50, help="of 1. (default: 50)")
    parser.add_argument("--candidates", type=int, nargs="+", default=[3, 9, 27, 1000], help="of 4.")
    parser.add_argument("--json", type=Path, help="file for the result")
    parser.add_argument("--tiny", action="store_true", help="only see that all runs: sizes that say nothing")
    arguments = parser.parse_args()
    if min([arguments.repetitions, arguments.rounds, *arguments.candidates]) < 1:
        parser.error("expected positive numbers")
    program = f"python -m tfbnas.recipes.{RECIPE}"
    known = {"program": program, "description": "", "presets": preset_files(RECIPE)}
    settings: Any = parse(Recipe(RECIPE).settings_class, ["--preset", "cpu"], **known).settings  # type: ignore[arg-type]
    task, small, candidates = Task(settings.search.batch_size, 16), Task(4, 16, 8), (1024, 16, 8)
    if arguments.tiny:
        turns.keep_to_one_processor()
        arguments.repetitions, arguments.rounds, arguments.precision = 1, 3, ["float32"]
        arguments.candidates = [3, 40]
        task = small = Task(4, 8, 8, "benchmark-width")  # of the candidates' comparison: traced in no time
        candidates = (48, 4, 4)
        settings.search.rounds = 3
    facts = turns.machine()
    print(f"{facts['processor']}; {facts['threads']} threads; TensorFlow {facts['tensorflow']}", flush=True)
    result: dict[str, Any] = {"machine": facts, "steps": [], "rounds": []}
    # First, while nothing has been freed that could be taken again.
    result["watched"] = watch_rounds(settings, small, arguments.rounds)
    count = len(result["watched"])
    show("watched", [result["watched"][i] for i in sorted({0, count // 4, count // 2, count - 1})])
    for precision in arguments.precision:
        search = make_search(settings, task, precision)
        result["steps"] += compare_steps(search, task, precision, arguments.repetitions)
        result["rounds"].append(round_overhead(search, settings, task, precision))
    show("steps", result["steps"])
    show("rounds", result["rounds"])
    result["candidates"] = compare_candidates(arguments.candidates, *candidates, arguments.repetitions)
    show("candidates", result["candidates"])
    if arguments.json:
        write_json(arguments.json, result)


if __name__ == "__main__":
    main()
