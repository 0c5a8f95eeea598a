"""Memory("file") against the files that export writes."""

import numpy as np
import pytest
from small_networks import randomise

from tfbnas import networks
from tfbnas.architecture import Architecture
from tfbnas.costs import Memory
from tfbnas.export.convert import convert_model
from tfbnas.export.deploy_form import deploy_with_notes
from tfbnas.export.description import Description
from tfbnas.export.metadata import described
from tfbnas.export.scaling import prepare

NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
FAMILIES = {
    "resnet18": {},
    "vgg11": {},
    "resnet_fabric": {"n": 1},
    "cnf": {"columns": 3, "scales": 4, "filters": 32},
}


def file_size(architecture):
    """Bytes of model.tflite."""
    model = randomise(networks.build(architecture))
    source = prepare(model, -np.ones((2, *architecture.input_shape), np.float32), "pixels")
    flatbuffer = convert_model(deploy_with_notes(source.model).model)
    return len(described(flatbuffer, Description(source.input, architecture.input_shape, NAMES)))


def check(family, seed):
    template = Architecture("t", family, {}, (32, 32, 3), 10, FAMILIES[family])
    drawn = networks.draw(template, np.random.default_rng(seed))
    file = file_size(drawn)
    counted = Memory("file").of(drawn)
    print(f"{family}: {file} bytes, {counted:.0f} counted, {counted / file - 1:+.2%}")
    assert counted == pytest.approx(file, rel=0.02)


@pytest.mark.parametrize("family", ["resnet18", "vgg11"])
def test_a_random_architecture_is_within_2_percent_of_its_file(family):
    pytest.importorskip("larq_compute_engine")
    check(family, 0)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 6))
@pytest.mark.parametrize("family", FAMILIES)
def test_20_random_architectures_are_within_2_percent_of_their_files(family, seed):
    pytest.importorskip("larq_compute_engine")
    check(family, seed)
