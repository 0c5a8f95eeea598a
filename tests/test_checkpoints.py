import json
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest

import tfbnas  # noqa: F401  isort: skip
import tensorflow as tf

from tfbnas.checkpoints import Checkpoints
from tfbnas.errors import UserError


def make_network(seed=0):
    """A compiled model whose optimiser has its slots, so that everything exists."""
    tf.keras.utils.set_random_seed(seed)
    model = tf.keras.Sequential(
        [
            tf.keras.layers.Conv2D(4, 3, input_shape=(6, 6, 3)),
            tf.keras.layers.BatchNormalization(),
            tf.keras.layers.GlobalAveragePooling2D(),
            tf.keras.layers.Dense(5),
        ]
    )
    loss = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(tf.keras.optimizers.Adam(0.01), loss, metrics=["accuracy"])
    model.optimizer.build(model.trainable_variables)
    return model


def bits(variables):
    return [np.asarray(variable).tobytes() for variable in variables]


def all_bits(model):
    return bits([*model.variables, *model.optimizer.variables])


class Open(tf.Module):
    """Weights of open width, with the slots that an optimiser keeps for them."""

    def __init__(self, channels, value=0.0):
        super().__init__()
        shape = [3, 3, channels, channels]
        self.kernel = tf.Variable(tf.fill(shape, value), shape=[3, 3, None, None])
        self.slots = [tf.Variable(tf.fill(shape, -value), shape=[3, 3, None, None], trainable=False)]
        self.size = tf.Variable(channels)


@pytest.fixture(scope="module")
def trained():
    model = make_network(seed=1)
    chance = np.random.default_rng(0)
    images = chance.normal(size=(40, 6, 6, 3)).astype("float32")
    model.fit(images, chance.integers(0, 5, 40), epochs=2, batch_size=8, verbose=0)
    return model


def test_everything_comes_back_bit_for_bit_in_a_fresh_model(tmp_path, trained):
    generator = tf.random.Generator.from_seed(3)
    generator.normal([5])
    Checkpoints(tmp_path, model=trained, generator=generator).save(2, {"history": [{"loss": 0.1 + 0.2}]})
    model, fresh = make_network(seed=2), tf.random.Generator.from_seed(4)
    assert all_bits(model) != all_bits(trained)
    assert Checkpoints(tmp_path, model=model, generator=fresh).restore() == (2, {"history": [{"loss": 0.1 + 0.2}]})
    assert all_bits(model) == all_bits(trained)
    assert int(model.optimizer.iterations) == 10
    assert np.array_equal(fresh.normal([5]), generator.normal([5]))


def test_open_variables_and_their_slots_come_back_in_the_saved_size(tmp_path):
    saved, fresh = Open(4, 0.5), Open(7)
    Checkpoints(tmp_path, network=saved).save(1)
    kernel = fresh.kernel
    Checkpoints(tmp_path, network=fresh).restore()
    assert fresh.kernel is kernel and kernel.shape.as_list() == [3, 3, None, None]
    assert bits(fresh.variables) == bits(saved.variables)
    assert fresh.kernel.numpy().shape == fresh.slots[0].numpy().shape == (3, 3, 4, 4)
    fresh.kernel.assign(tf.ones([3, 3, 9, 9]))  # still open


def test_without_a_checkpoint_nothing_changes(tmp_path):
    checkpoints = Checkpoints(tmp_path / "none", network=Open(2))
    assert checkpoints.latest() is None and checkpoints.restore() is None
    assert not (tmp_path / "none").exists()


def test_only_the_newest_are_kept_and_steps_rise(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=2, network=Open(2))
    for step in (1, 2, 10, 1_000_000):
        checkpoints.save(step, {"step": step})
    assert checkpoints.steps() == [10, 1_000_000]
    assert checkpoints.latest() == (1_000_000, {"step": 1_000_000})
    with pytest.raises(ValueError, match="greater than the last saved, 1000000. Received: step=10"):
        checkpoints.save(10)
    with pytest.raises(TypeError):
        checkpoints.save(1_000_001, {"bad": object()})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-000010", "step-1000000"]
    with pytest.raises(ValueError, match="keep=0"):
        Checkpoints(tmp_path, keep=0)


@pytest.mark.parametrize("file", ["state.json", "variables.index", "variables.data-00000-of-00001", "manifest.json"])
@pytest.mark.parametrize("harm", ["flip", "truncate", "remove"])
def test_damage_is_found_and_the_previous_one_is_a_deletion_away(tmp_path, file, harm):
    network = Open(2, 1.0)
    checkpoints = Checkpoints(tmp_path, network=network)
    checkpoints.save(1, {"step": 1})
    network.kernel.assign_add(tf.ones_like(network.kernel))
    checkpoints.save(2, {"step": 2})
    path = tmp_path / "step-000002" / file
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x80
    if harm == "remove":
        path.unlink()
    else:
        path.write_bytes(content if harm == "flip" else content[:-1])
    for read in (checkpoints.latest, checkpoints.restore):
        with pytest.raises(UserError) as error:
            read()
        assert str(tmp_path / "step-000002") in str(error.value) and file in str(error.value)
        assert "Delete that directory" in str(error.value) and "previous one, step 1" in str(error.value)
    for entry in (tmp_path / "step-000002").iterdir():
        entry.unlink()
    (tmp_path / "step-000002").rmdir()
    assert checkpoints.restore() == (1, {"step": 1})
    assert network.kernel.numpy().max() == 1.0


def test_other_variables_are_refused(tmp_path):
    Checkpoints(tmp_path, network=tf.Variable(tf.zeros([3]))).save(1)
    for other in (tf.Variable(tf.zeros([4])), [tf.Variable(0.0)], make_network()):
        with pytest.raises(UserError, match="does not fit the network.*--run_dir"):
            Checkpoints(tmp_path, network=other).restore()


def test_an_optimiser_without_its_slots_is_refused(tmp_path, trained):
    Checkpoints(tmp_path, model=trained).save(1)
    model = make_network()
    model.compile(tf.keras.optimizers.Adam(0.01))
    with pytest.raises(UserError, match="does not fit"):
        Checkpoints(tmp_path, model=model).restore()


def test_leftovers_of_killed_writes_are_no_checkpoints_and_are_removed(tmp_path):
    checkpoints = Checkpoints(tmp_path, network=Open(2))
    checkpoints.save(1)
    for name in (".step-000002.abcdefgh/step-000002", ".deleted-000000"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "state.json").write_text("{}")
    assert checkpoints.steps() == [1] and checkpoints.restore() == (1, {})
    checkpoints.save(2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-000001", "step-000002"]


def test_disk_full(tmp_path, monkeypatch):
    checkpoints = Checkpoints(tmp_path, network=Open(2))
    checkpoints.save(1)

    def full(*_args, **_kwargs):
        raise tf.errors.ResourceExhaustedError(None, None, "variables.data; No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(tf.train.Checkpoint, "write", full)
        with pytest.raises(UserError, match="disk is full.*Free some space"):
            checkpoints.save(2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-000001"]
    checkpoints.save(2)


KILLED = """
    import tfbnas
    import json, os, random, signal, sys, time
    import tensorflow as tf
    from tfbnas.checkpoints import Checkpoints

    def work(directory, acknowledged):
        # Both variables, the state and the step must always tell the same number.
        counter = tf.Variable(0, dtype=tf.int64)
        weights = tf.Variable(tf.zeros([300, 300]))
        checkpoints = Checkpoints(directory, counter=counter, weights=weights)
        step, state = checkpoints.restore() or (0, {"step": 0})
        low, high = float(tf.reduce_min(weights)), float(tf.reduce_max(weights))
        if not step == state["step"] == int(counter) == low == high:
            os.write(acknowledged, b"torn\\n")
        os.write(acknowledged, f"restored {step}\\n".encode())
        while True:
            step += 1
            counter.assign(step)
            weights.assign(tf.fill([300, 300], float(step)))
            checkpoints.save(step, {"step": step})
            os.write(acknowledged, f"saved {step}\\n".encode())

    chance = random.Random(0)
    lines, cut = [], 0
    for trial in range(int(sys.argv[2])):
        read, write = os.pipe()
        child = os.fork()  # before any TensorFlow operation ran in this process
        if child == 0:
            work(sys.argv[1], write)
        os.close(write)
        stream = os.fdopen(read)
        for _ in range(chance.randint(1, 4)):
            lines.append(stream.readline())
        time.sleep(chance.uniform(0.0, 0.02))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        lines += stream.readlines()
        cut += any(name.startswith(".") for name in os.listdir(sys.argv[1]))
    print(json.dumps([cut, lines]))
"""


def test_killed_at_many_moments_the_newest_is_intact_and_not_older_than_the_last_acknowledged(tmp_path):
    output = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(KILLED), str(tmp_path), "12"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert output.returncode == 0, output.stderr[-2000:]
    cut, lines = json.loads(output.stdout)
    assert "torn\n" not in lines
    acknowledged, restored = 0, 0
    for line in lines:
        word, step = line.split()
        if word == "restored":
            restored += 1
            assert int(step) in (acknowledged, acknowledged + 1)  # it may have been killed before it could say so
        acknowledged = int(step)
    assert restored == 12 and acknowledged > 12
    assert cut > 3  # so many kills hit a write


def test_saving_is_fast(tmp_path):
    variables = [tf.Variable(tf.random.normal([12_000])) for _ in range(60)]  # as many as ResNet-18 has
    checkpoints = Checkpoints(tmp_path, variables=variables)
    seconds = []
    for step in range(5):
        begin = time.perf_counter()
        checkpoints.save(step + 1)
        seconds.append(time.perf_counter() - begin)
    assert min(seconds) < 0.3
