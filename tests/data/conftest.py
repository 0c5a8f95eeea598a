from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1] / "tools")]  # for data_files, which the tests share, and for the tools

from data_files import make_images, make_tfds  # noqa: E402


@pytest.fixture(scope="session")
def tiny_tfds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """30 + 12 images of 3 classes, 8x8; the returned directory is the one above name/version."""
    out = tmp_path_factory.mktemp("tfds")
    train = (make_images(30, seed=1), np.arange(30) % 3)
    test = (make_images(12, seed=2), np.arange(12) % 3)
    make_tfds(out, {"train": train, "test": test})
    return out
