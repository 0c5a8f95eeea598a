import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for small_networks, which the tests share

from small_networks import randomise, small_resnet  # noqa: E402


@pytest.fixture(scope="package")
def trained():
    return randomise(small_resnet())


@pytest.fixture(scope="package")
def images():
    return np.random.default_rng(1).uniform(size=(24, 16, 16, 3)).astype(np.float32)
