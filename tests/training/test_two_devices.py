"""Adam for the kernels and SGD for the rest on two devices: the steps of one device, and all copies equal."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import tfbnas

pytestmark = pytest.mark.slow

PROGRAM = Path(__file__).with_name("two_devices.py")


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    file = tmp_path_factory.mktemp("devices") / "found.json"
    environment = {**os.environ, "PYTHONPATH": str(Path(tfbnas.__file__).parents[1])}
    command = [sys.executable, str(PROGRAM), str(file), "none", "mirrored"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    return json.loads(file.read_text())


@pytest.mark.parametrize("case", ["train", "dms"])
def test_two_devices_take_the_steps_of_one(found, case):
    alone, together = found["none"][case], found["mirrored"][case]
    assert together["equal"]
    assert len(alone["losses"]) == len(together["losses"]) == 20
    for step, (one, other) in enumerate(zip(alone["losses"], together["losses"], strict=True)):
        assert other == pytest.approx(one, abs=1e-4), step
    assert len({round(step["loss"], 3) for step in alone["losses"]}) > 5, "nothing moved"
    for one, other in zip(alone["weights"], together["weights"], strict=True):
        np.testing.assert_allclose(other, one, atol=1e-3)
