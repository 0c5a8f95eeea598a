"""Best-effort initialisation (DMS Eq. 9-10): what is common is kept bit for bit, in weights and optimiser slots."""

import numpy as np
import pytest
import tensorflow as tf

from tfbnas.layers import OpenWidth
from tfbnas.layers.resizing import make_growable, open_weights, resize
from tfbnas.networks import construct

OPTIMIZERS = {
    "momentum": lambda: tf.keras.optimizers.SGD(0.1, momentum=0.9),
    "nesterov": lambda: tf.keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True, weight_decay=1e-4),
    "adam": lambda: tf.keras.optimizers.Adam(1e-2, amsgrad=True),
    "rmsprop": lambda: tf.keras.optimizers.RMSprop(1e-2, momentum=0.9, centered=True),
}
START = {"stream": 5, "inner": 6, "out": 20}
SHRUNK = {"stream": 3, "inner": 6, "out": 8}
GROWN = {"stream": 21, "inner": 40, "out": 8}


class Search:
    """An open network, its widths, and an optimiser that has taken a step."""

    def __init__(self, optimizer, batch):
        self.widths = {}

        def choose(name, base):
            return self.widths.setdefault(name, OpenWidth(name, base, size=START[name]))

        tf.keras.utils.set_random_seed(0)
        self.model = construct("test-small", choose, input_shape=(8, 8, 3), classes=4, options={})
        self.optimizer = make_growable(optimizer)
        self.optimizer.build(self.model.trainable_variables)
        self.batch = batch
        self.train()

    def train(self):
        images, labels = self.batch
        variables = self.model.trainable_variables
        with tf.GradientTape() as tape:
            logits = self.model(images, training=True)
            loss = tf.reduce_mean(tf.keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True))
        self.optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        return float(loss)

    def resize(self, sizes, **options):
        resize(self.model, {self.widths[name]: size for name, size in sizes.items()}, **options)

    def values(self):
        return {
            **{f"weight {i}": weight.numpy() for i, weight in enumerate(self.model.weights)},
            **{f"slot {i}": slot.numpy() for i, slot in enumerate(self.optimizer.variables)},
        }

    def shapes(self, sizes):
        """Shapes that all weights should have, derived from the plain network."""
        plain = construct("test-small", lambda name, base: sizes[name], input_shape=(8, 8, 3), classes=4, options={})
        return [tuple(weight.shape) for weight in plain.weights]


@pytest.fixture
def batch(image_batches):
    return next(iter(image_batches(16)))


def common(left, right):
    return tuple(slice(min(sizes)) for sizes in zip(left.shape, right.shape, strict=True))


def outside(array, part):
    mask = np.ones(array.shape, bool)
    mask[part] = False
    return array[mask]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_common_part_survives_shrinking_and_growing(name, batch):
    search = Search(OPTIMIZERS[name](), batch)
    slots = len(search.optimizer.variables) - 1  # the counter of steps
    assert slots >= len(search.model.trainable_variables)
    for seed, sizes in enumerate((SHRUNK, GROWN, START)):
        before = search.values()
        fresh_size = 0
        search.resize(sizes, seed=seed, optimizer=search.optimizer)
        assert [tuple(value.shape) for value in search.model.get_weights()] == search.shapes(sizes)
        after = search.values()
        assert after.keys() == before.keys()
        for key, old in before.items():
            new = after[key]
            part = common(old, new) if np.ndim(old) else ...
            assert new[part].tobytes() == old[part].tobytes(), key
            if key.startswith("slot") and np.ndim(new):
                np.testing.assert_array_equal(outside(new, part), 0)
                fresh_size += outside(new, part).size
        assert (fresh_size > 0) == (sizes is not SHRUNK)
        assert any(np.any(value) for key, value in before.items() if key.startswith("slot") and np.ndim(value) == 4)
        assert np.isfinite(search.train())


def test_every_slot_has_the_shape_of_its_variable(batch):
    search = Search(OPTIMIZERS["adam"](), batch)
    search.resize(GROWN, seed=0, optimizer=search.optimizer)
    trainable = [tuple(variable.shape) for variable in map(tf.convert_to_tensor, search.model.trainable_variables)]
    for slots in (search.optimizer._momentums, search.optimizer._velocities, search.optimizer._velocity_hats):
        assert [tuple(tf.convert_to_tensor(slot).shape) for slot in slots] == trainable


def test_new_channels_are_freshly_initialised(batch):
    search = Search(OPTIMIZERS["momentum"](), batch)
    sizes = dict(START, out=64)
    old = {weight.key: weight.variable.numpy() for weight in open_weights(search.model)}
    search.resize(sizes, seed=7, optimizer=search.optimizer)
    kernels = 0
    for weight in open_weights(search.model):
        new = weight.variable.numpy()
        if new.shape == old[weight.key].shape:
            assert new.tobytes() == old[weight.key].tobytes()  # nothing of this width's business
            continue
        part = common(new, old[weight.key])
        np.testing.assert_array_equal(outside(new, part), outside(weight.fresh(7).numpy(), part))
        if weight.key.endswith("kernel") and new.ndim == 4:
            kernels += 1
            assert outside(new, part).std() == pytest.approx(np.sqrt(2 / np.prod(new.shape[:3])), rel=0.15)  # He et al.
        elif weight.key.endswith(("gamma", "moving_variance")):
            np.testing.assert_array_equal(outside(new, part), 1)
        elif weight.key.endswith(("beta", "moving_mean")):
            np.testing.assert_array_equal(outside(new, part), 0)
    assert kernels == 2


def test_the_seed_decides_new_channels(batch):
    def grown(seed):
        search = Search(OPTIMIZERS["momentum"](), batch)
        search.resize(GROWN, seed=seed)
        return b"".join(value.tobytes() for value in search.model.get_weights())

    assert grown(1) == grown(1) != grown(2)


def test_without_best_effort_all_open_variables_start_anew(batch):
    search = Search(OPTIMIZERS["adam"](), batch)
    before = {weight.key: weight.variable.numpy() for weight in open_weights(search.model)}
    steps = [layer.step.numpy() for layer in search.model.layers if hasattr(layer, "step")]
    search.resize(START, seed=3, optimizer=search.optimizer, keep=False)
    for weight in open_weights(search.model):
        np.testing.assert_array_equal(weight.variable, weight.fresh(3))
        if weight.key.endswith("kernel"):
            assert not np.any(weight.variable.numpy() == before[weight.key])
    of_open = {
        tuple(weight.variable.numpy().shape) for weight in open_weights(search.model) if weight.variable.trainable
    }
    for slot in search.optimizer.variables:
        if tuple(slot.numpy().shape) in of_open and slot.numpy().shape != (4,):
            np.testing.assert_array_equal(slot, 0)
    assert steps == [layer.step.numpy() for layer in search.model.layers if hasattr(layer, "step")]


def test_forward_pass_of_kept_channels_does_not_see_new_ones(batch):
    """A network that grows only its last stream keeps the features that it had."""
    search = Search(OPTIMIZERS["momentum"](), batch)
    features = tf.keras.Model(search.model.input, search.model.get_layer("pool").output)
    before = features(batch[0], training=False).numpy()[:, : START["out"]]
    search.resize({"out": 50}, seed=0, optimizer=search.optimizer)
    after = features(batch[0], training=False).numpy()
    np.testing.assert_allclose(after[:, : START["out"]], before, rtol=1e-5, atol=1e-5)
    assert np.abs(after[:, START["out"] : 50]).max() > 0


def test_checkpoints_hold_every_slot(batch, tmp_path):
    """Slots of open variables are saved and come back in their size."""
    search = Search(OPTIMIZERS["adam"](), batch)
    search.resize(GROWN, seed=0, optimizer=search.optimizer)
    search.train()
    saved = search.values()
    path = tf.train.Checkpoint(model=search.model, optimizer=search.optimizer).write(str(tmp_path / "c"))
    other = Search(OPTIMIZERS["adam"](), batch)
    status = tf.train.Checkpoint(model=other.model, optimizer=other.optimizer).read(path)
    status.assert_consumed()
    for key, value in other.values().items():
        assert value.tobytes() == saved[key].tobytes(), key
