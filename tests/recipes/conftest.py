"""A tiny folder of images, and recipes run as a user runs them."""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import tfbnas

TINY = {
    "search.rounds": 2,
    "search.weight_epochs": 1,
    "search.batch_size": 8,
    "search.initial_ratio": 0.6,
    "search.initial_sigma": 0.4,
    "search.final_sigma": 0.2,
    "train.epochs": 2,
    "train.batch_size": 8,
    "export.images": 8,
    "baselines.ratios": "[0.4]",
    "budget.memory": 0.02,
    "budget.counting": "paper",
    "precision": "float32",
}


@pytest.fixture(scope="session")
def image_folder(tmp_path_factory) -> Path:
    """Two classes that differ in brightness: 16 training and 8 test images of 32x32 each."""
    import tensorflow as tf

    root = tmp_path_factory.mktemp("images")
    generator = np.random.default_rng(0)
    for split, count in (("train", 16), ("test", 8)):
        for label, name in enumerate(("dark", "light")):
            (root / split / name).mkdir(parents=True)
            for index in range(count):
                image = generator.integers(0, 128, (32, 32, 3)) + 127 * label
                (root / split / name / f"{index}.png").write_bytes(tf.io.encode_png(image.astype(np.uint8)).numpy())
    return root


@pytest.fixture
def command(image_folder):
    """Makes the command line of a recipe on the tiny images; keyword arguments replace settings (`search__rounds`)."""

    def make(run_dir: Path, *arguments: str, recipe: str = "dms_vgg11", **settings) -> list[str]:
        values = {"data.name": image_folder, **TINY, **{k.replace("__", "."): v for k, v in settings.items()}}
        options = [text for name, value in values.items() for text in (f"--{name}", str(value))]
        return [sys.executable, "-m", f"tfbnas.recipes.{recipe}", "--run_dir", str(run_dir), *options, *arguments]

    return make


def environment() -> dict[str, str]:
    """The process's own, with the tfbnas under test importable from any working directory."""
    return {**os.environ, "PYTHONPATH": str(Path(tfbnas.__file__).parents[1])}


@pytest.fixture
def start(spawn):
    """Starts a command in an empty working directory; the process is gone when the test ends."""
    return lambda arguments: spawn(arguments, environment())


def _without_times(value):
    """A result without what depends on the clock."""
    if isinstance(value, dict):
        return {key: _without_times(inner) for key, inner in value.items() if key != "seconds"}
    return [_without_times(inner) for inner in value] if isinstance(value, list) else value


@pytest.fixture(scope="session")
def results():
    """All that a run found, without what depends on the clock."""

    def read(run: Path) -> dict[str, dict]:
        files = [*(run / "stages").glob("*.json"), run / "architecture.json", run / "export.json"]
        return {file.name: _without_times(json.loads(file.read_text())) for file in files}

    return read


def _progress(run: Path) -> int:
    """How many checkpoints, stages and files a run has made."""
    # os.walk passes over directories that vanish meanwhile: the run's process writes beside and renames.
    found = [
        [*folders, *(f for f in files if f.endswith((".json", ".tflite", ".keras", ".html")))]
        for _, folders, files in os.walk(run)
    ]
    return sum(map(len, found))


@pytest.fixture
def kill_again_and_again(start):
    """Runs a command to its end through SIGKILLs at many moments: soon after one of the next things that it writes.

    Every start imports TensorFlow and traces anew, so there are few kills, spread over the run by a fixed seed.
    """

    def work(arguments: list[str], run: Path, most: int) -> None:
        moments = random.Random(0)
        kills = 0
        process = start(arguments)
        while kills < most and process.poll() is None:
            before, some = _progress(run) if run.exists() else 0, moments.choice([1, 2, 4] if most > 2 else [5, 7])
            while process.poll() is None and (not run.exists() or _progress(run) <= before + some):
                time.sleep(0.01)
            time.sleep(moments.choice([0.0, 0.05, 0.3, 1.0]))
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
                process.wait()
                kills += 1
                process = start(arguments)
        output, _ = process.communicate()
        assert process.returncode == 0, output
        assert kills >= min(most, 3)

    return work
