"""Training and searching with several devices and with several processes."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import types
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

import tfbnas
from tfbnas import distribution
from tfbnas.errors import UserError
from tfbnas.recipes import devices

PROGRAMS = Path(__file__).parent / "distributed"
TINY = "search.rounds=2 search.batch_size=8 train.epochs=2 train.batch_size=8 precision=float32"
CASES = {"mirrored": ["dms", "bsn_of_each_example"], "multiworker": ["train"]}
"""What goes through each strategy in the quick tests: each step takes long to trace, and each kind passes once."""
FURTHER = {"mirrored": ["train", "bsn"], "multiworker": ["dms", "bsn", "bsn_of_each_example"]}


def environment(**further: str) -> dict[str, str]:
    path = os.pathsep.join([str(Path(tfbnas.__file__).parents[1]), str(PROGRAMS)])
    # All threads, also beside other tests: with one, sums over a batch and over its halves come apart by rounding.
    own = {name: value for name, value in os.environ.items() if not name.endswith("_THREADS")}
    return {**own, "PYTHONPATH": path, "TF_CPP_MIN_LOG_LEVEL": "3", **further}


def workers(count: int = 2) -> list[dict[str, str]]:
    """The environments of processes that work together on free ports."""
    sockets = [socket.create_server(("localhost", 0)) for _ in range(count)]
    addresses = [f"localhost:{one.getsockname()[1]}" for one in sockets]
    for one in sockets:
        one.close()
    tasks = [{"cluster": {"worker": addresses}, "task": {"type": "worker", "index": i}} for i in range(count)]
    return [environment(TF_CONFIG=json.dumps(task)) for task in tasks]


def end(processes, *, timeout=1200) -> list[str]:
    """Waits for processes that must come to a good end; what they wrote."""
    outputs = [process.communicate(timeout=timeout)[0] for process in processes]
    for process, output in zip(processes, outputs, strict=True):
        assert process.returncode == 0, output
    return outputs


def losses_of(folder: Path, cases: dict[str, list[str]]) -> dict:
    """What one device, two devices, and two processes find, all at the same time."""
    alone, mirrored, shared = (
        f"{name}={','.join(listed)}"
        for name, listed in {"none": sorted({case for listed in cases.values() for case in listed}), **cases}.items()
    )
    first, second = workers()
    programs = [
        (environment(), "one process", alone, mirrored),
        (first, "multiworker 0", shared),
        (second, "multiworker 1", shared),
    ]
    processes = [
        subprocess.Popen(
            [sys.executable, str(PROGRAMS / "losses.py"), str(folder / file), *names],
            env=own,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for own, file, *names in programs
    ]
    try:
        end(processes)
    finally:
        for process in processes:
            process.kill()
            process.wait()
            process.stdout.close()
    one, *others = [json.loads((folder / file).read_text()) for _, file, *_ in programs]
    return one | {"multiworker": others[0]["multiworker"], "other worker": others[1]["multiworker"]}


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return losses_of(tmp_path_factory.mktemp("losses"), CASES)


@pytest.fixture(scope="module")
def further(tmp_path_factory):
    return losses_of(tmp_path_factory.mktemp("losses"), FURTHER)


def check_losses(found, name, case):
    alone, together = found["none"][case], found[name][case]
    assert len(alone["losses"]) == len(together["losses"]) == 20
    for step, (one, other) in enumerate(zip(alone["losses"], together["losses"], strict=True)):
        assert other == pytest.approx(one, abs=1e-4), step
    assert len({round(step["loss"], 3) for step in alone["losses"]}) > 5, "nothing moved"
    for one, other in zip(alone["weights"], together["weights"], strict=True):
        np.testing.assert_allclose(other, one, atol=1e-3)

    if name == "mirrored":
        assert together["equal"], "copies differ"
    else:
        assert together["weights"] == found["other worker"][case]["weights"], "copies differ"


@pytest.mark.parametrize(("name", "case"), [(name, case) for name, cases in CASES.items() for case in cases])
def test_losses_are_those_of_one_device_and_copies_stay_equal(found, name, case):
    check_losses(found, name, case)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "case"), [(name, case) for name, cases in FURTHER.items() for case in cases])
def test_the_same_of_the_other_cases(further, name, case):
    check_losses(further, name, case)


@pytest.fixture
def recipe(spawn, tmp_path):
    """Starts workers with the same command."""

    def start(*arguments: str, run: Path, environments=None):
        settings = [f"--{setting}" for setting in (*TINY.split(), "strategy=multiworker", f"run_dir={run}")]
        program = [sys.executable, str(PROGRAMS / "recipe.py"), *settings, *arguments]
        return [spawn(program, own) for own in environments or workers()]

    return start


def weights_of(run: Path) -> list[np.ndarray]:
    (newest,) = sorted((run / "checkpoints" / "train-searched").glob("step-*"))[-1:]
    reader = tf.train.load_checkpoint(str(newest / "variables"))
    return [reader.get_tensor(name) for name in sorted(reader.get_variable_to_shape_map()) if "VALUE" in name]


@pytest.fixture
def undisturbed(recipe, tmp_path):
    """A run of two workers, of which the second is given another run directory."""
    first, second = workers()
    run, elsewhere = tmp_path / "undisturbed", tmp_path / "elsewhere"
    end([*recipe(run=run, environments=[first]), *recipe(run=elsewhere, environments=[second])])
    assert not elsewhere.exists(), "only the chief writes"
    return run


@pytest.mark.slow
def test_a_killed_worker_ends_the_run_of_the_others_and_it_goes_on(recipe, undisturbed, tmp_path):
    run = tmp_path / "run"
    chief, worker = recipe(run=run)
    while not list(run.glob("checkpoints/search/step-*")):
        assert chief.poll() is None, chief.communicate()[0]
        time.sleep(0.05)
    worker.send_signal(signal.SIGKILL)
    output, _ = chief.communicate(timeout=300)
    assert chief.returncode == 2, output
    errors = [line for line in output.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and "Another worker of this run has ended" in errors[0]
    assert "Traceback" not in output
    assert not (run / "stages" / "search.json").exists()
    end(recipe(run=run))
    for one, other in zip(weights_of(run), weights_of(undisturbed), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("config", [None, "{", '{"cluster": {"worker": ["localhost:1"]}, "task": {"type": "worker"}}'])
def test_without_tf_config_there_are_no_workers(config, monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    if config is not None:
        monkeypatch.setenv("TF_CONFIG", config)
    with pytest.raises(UserError, match="TF_CONFIG with --strategy multiworker"):
        devices._workers()


def test_one_device_is_left_as_it_is():
    x = tf.constant([[1.0, 2.0]])
    assert distribution.replicas() == 1
    assert distribution.gather(x) is x and distribution.own_part(x) is x and distribution.means([x]) == [x]
    batches = tf.data.Dataset.from_tensors(x)
    assert distribution.divided(batches) is batches
    optimizer = tf.keras.optimizers.SGD(0.1)
    distribution.update_locally(optimizer)
    assert "aggregate_gradients" not in vars(optimizer)


@pytest.mark.parametrize("size", [1, 31, 32, 33, 1000, 65535, 65536, 11_173_962])
def test_sums_of_other_lengths_have_other_numbers(size):
    lengths = {}
    for one in (size - 1, size, size + 1):
        padded, number = distribution._padded(tf.zeros([one]))
        assert one <= len(padded) <= one * 17 / 16 + 1 and 0 <= int(number) < distribution._SIZES
        assert lengths.setdefault(int(number), len(padded)) == len(padded)


def test_what_cannot_be_divided_is_refused(monkeypatch):
    batches = tf.data.Dataset.from_tensors(tf.zeros([5, 2]))
    three = types.SimpleNamespace(num_replicas_in_sync=3)
    with pytest.raises(UserError, match="divided among 3 devices. Received: batches of 5"):
        distribution.divided(batches, three)
    monkeypatch.setattr(devices, "_mirrored", lambda: three)
    sizes = {"search": types.SimpleNamespace(batch_size=6), "train": types.SimpleNamespace(batch_size=8)}
    with (
        pytest.raises(UserError, match="`train.batch_size` to be a multiple of the 3 devices"),
        devices.together(types.SimpleNamespace(strategy="mirrored", **sizes)),
    ):
        pass


def test_optimisers_from_outside_of_the_strategy_and_eager_steps_are_refused():
    optimizer = tf.keras.optimizers.SGD(0.1)
    with tf.distribute.MirroredStrategy(["CPU:0"]).scope(), pytest.raises(UserError, match="inside `strategy.scope"):
        distribution.update_locally(optimizer)
    with pytest.raises(UserError, match="run_eagerly=True"):
        distribution._sum_over_replicas(tf.zeros([1]))
