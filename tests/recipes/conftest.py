"""A tiny folder of images, and recipes run as a user runs them."""

from __future__ import annotations

import os
import subprocess
import sys
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
def start(tmp_path):
    """Starts a command in an empty working directory; the process is gone when the test ends."""
    processes = []

    def run(arguments: list[str]) -> subprocess.Popen:
        process = subprocess.Popen(
            arguments,
            cwd=tmp_path,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        processes.append(process)
        return process

    yield run
    for process in processes:
        process.kill()
        process.wait()
        process.stdout.close()
