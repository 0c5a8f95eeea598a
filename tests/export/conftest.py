import numpy as np
import pytest
from small_networks import randomise, small_resnet


@pytest.fixture(scope="package")
def trained():
    return randomise(small_resnet())


@pytest.fixture(scope="package")
def images():
    return np.random.default_rng(1).uniform(size=(24, 16, 16, 3)).astype(np.float32)
