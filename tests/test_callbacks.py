import io
import re

import numpy as np
import pytest

import tfbnas  # noqa: F401  isort: skip
import tensorflow as tf

from tfbnas.callbacks import Progress, SaveEveryEpoch, StageBar, StopOnNaN, TensorBoardScalars
from tfbnas.callbacks import bar as bar_module
from tfbnas.callbacks.scalars import last_steps
from tfbnas.checkpoints import Checkpoints
from tfbnas.errors import UserError


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Number:
    """A scalar that counts how often it is read."""

    def __init__(self, value):
        self.value = value
        self.reads = 0

    def __float__(self):
        self.reads += 1
        return self.value


@pytest.fixture
def clock(monkeypatch):
    class Clock:
        now = 0.0

        def __call__(self):
            return self.now

    clock = Clock()
    monkeypatch.setattr(bar_module, "monotonic", clock)
    return clock


def network(batches=5, bad=(), **compile_arguments):
    """A linear model and a data set of which the batches `bad` hold an infinite target."""
    tf.keras.utils.set_random_seed(0)
    model = tf.keras.Sequential([tf.keras.layers.Dense(1, input_shape=(2,))])
    model.compile(tf.keras.optimizers.SGD(0.01, momentum=0.9), "mse", **compile_arguments)
    model.optimizer.build(model.trainable_variables)
    targets = np.ones((batches, 4, 1), "float32")
    targets[list(bad)] = np.inf
    inputs = np.random.default_rng(0).normal(size=(batches, 4, 2)).astype("float32")
    return model, tf.data.Dataset.from_tensor_slices((inputs, targets))


# Progress


def test_on_a_terminal_one_bar_is_redrawn_and_values_are_read_at_most_five_times_a_second(clock):
    stream, loss = Terminal(), Number(1.25)
    bar = StageBar("search", 1000, initial=200, stream=stream, describe=lambda logs: {"memory": "0.11 of 0.12 MiB"})
    for step in range(201, 701):  # 500 steps in 5 seconds
        clock.now += 0.01
        bar.update(step, {"loss": loss, "accuracy": 0.5})
    assert 20 <= loss.reads <= 26
    bar.end_epoch(1000, {"loss": loss, "accuracy": 0.5})
    bar.close()
    text = stream.getvalue()
    assert "\n" not in text.rstrip("\n") and text.count("\r") > 10
    last = text.rstrip("\n").split("\r")[-1]
    assert "search: 100%" in last and "1000/1000" in last and "left" in last
    assert "loss 1.25, accuracy 50.00%, memory 0.11 of 0.12 MiB" in last


def test_elsewhere_lines_are_printed_at_ends_of_epochs_and_every_thirty_seconds(clock):
    stream, loss = io.StringIO(), Number(2.0)
    bar = StageBar("search", 400, initial=100, stream=stream)
    for step in range(101, 201):
        clock.now += 1
        bar.update(step, {"loss": loss})
    bar.end_epoch(200, {"loss": loss, "val_accuracy": 0.25})
    bar.close()
    lines = stream.getvalue().splitlines()
    assert lines == [
        "search: 130/400 steps, loss 2, 04:30 left",
        "search: 160/400 steps, loss 2, 04:00 left",
        "search: 190/400 steps, loss 2, 03:30 left",
        "search: 200/400 steps, loss 2, validation accuracy 25.00%, 03:20 left",
    ]
    assert loss.reads == 4


def test_a_description_may_replace_a_number(clock):
    stream = io.StringIO()
    bar = StageBar("search", None, stream=stream, describe=lambda logs: {"memory": f"{logs['memory'] / 2**20:.2f} MiB"})
    bar.end_epoch(3, {"memory": tf.constant(2.0**19)})
    assert stream.getvalue() == "search: 3 steps, memory 0.50 MiB\n"


def test_progress_of_a_resumed_fit(clock):
    model, data = network()
    stream = io.StringIO()
    model.fit(data, epochs=4, initial_epoch=2, verbose=0, callbacks=[Progress("training", stream=stream)])
    lines = stream.getvalue().splitlines()
    assert [re.match(r"training: \d+/20 steps, loss [\d.]+", line)[0].split(",")[0] for line in lines] == [
        "training: 15/20 steps",
        "training: 20/20 steps",
    ]


def test_progress_with_steps_unknown(clock):
    model, data = network()
    data = data.filter(lambda x, y: True)  # a data set of unknown length
    stream = Terminal()
    model.fit(data, epochs=3, verbose=0, callbacks=[Progress("search", stream=stream)])
    assert stream.getvalue().count("\n") == 1 and stream.getvalue().endswith("\n")
    assert "search: 100%" in stream.getvalue().split("\r")[-1] and "15/15" in stream.getvalue().split("\r")[-1]


def test_no_callback_makes_keras_read_every_step(tmp_path):
    model, data = network(batches=50)
    seen = []

    class Probe(tf.keras.callbacks.Callback):
        def __init__(self):
            super().__init__()
            self._supports_tf_logs = True

        def on_train_batch_end(self, batch, logs=None):
            seen.append(type(logs["loss"]))

    ours = [
        Progress("training", stream=io.StringIO()),
        StopOnNaN("training"),
        TensorBoardScalars(tmp_path / "t"),
        SaveEveryEpoch(Checkpoints(tmp_path / "c", model=model)),
    ]
    model.fit(data, verbose=0, callbacks=[*ours, Probe()])
    assert len(seen) == 50 and all(issubclass(kind, tf.Tensor) for kind in seen)


# StopOnNaN


@pytest.mark.parametrize("bad", [0, 19, 20, 24])
def test_the_first_bad_step_is_named_and_the_last_good_checkpoint_stays(tmp_path, bad):
    model, data = network(batches=25, bad=[bad])
    good = network(batches=25)[1]
    checkpoints = Checkpoints(tmp_path, model=model)
    callbacks = [StopOnNaN("training"), SaveEveryEpoch(checkpoints)]
    model.fit(good, epochs=2, verbose=0, callbacks=callbacks)
    before = [np.array(variable) for variable in model.variables]
    with pytest.raises(UserError) as error:
        model.fit(data, epochs=4, initial_epoch=2, verbose=0, callbacks=callbacks)
    text = str(error.value)
    assert f"Stage 'training' stopped: loss became inf at step {50 + bad + 1} (step {bad + 1} of epoch 3)" in text
    assert "Lower the learning rate" in text and "\n" not in text
    assert checkpoints.restore()[0] == 2
    assert all(np.array_equal(old, new) for old, new in zip(before, model.variables, strict=True))


def test_training_stops_soon_after_the_bad_step():
    model, data = network(batches=100, bad=[22])
    with pytest.raises(UserError, match="step 23 of epoch 1"):
        model.fit(data, verbose=0, callbacks=[StopOnNaN("training")])
    assert int(model.optimizer.iterations) == 40


def test_a_bad_validation_loss_stops_too():
    model, data = network()
    with pytest.raises(UserError, match="validation loss became inf at the end of epoch 1"):
        model.fit(data, validation_data=network(bad=[1])[1], verbose=0, callbacks=[StopOnNaN("training")])


# SaveEveryEpoch


def test_a_resumed_training_is_the_undisturbed_one(tmp_path):
    def train(directory, epochs):
        model, data = network()
        checkpoints = Checkpoints(directory, model=model)
        step, state = checkpoints.restore() or (0, {"history": []})
        save = SaveEveryEpoch(checkpoints, history=state["history"], state={"best": 7}, record=lambda: {"kept": [1]})
        model.fit(data, epochs=epochs, initial_epoch=step, verbose=0, callbacks=[save])
        return model, checkpoints.latest(), save.history

    whole, (step, state), history = train(tmp_path / "whole", 4)
    train(tmp_path / "parts", 1)
    parts, latest, _ = train(tmp_path / "parts", 4)
    assert latest == (step, state) and step == 4 and state["history"] == history and state["best"] == 7
    assert [entry["epoch"] for entry in history] == [1, 2, 3, 4] and state["epoch"] == 4
    assert all(np.array_equal(a, b) for a, b in zip(whole.variables, parts.variables, strict=True))


def test_every_second_epoch_and_the_last(tmp_path):
    model, data = network()
    checkpoints = Checkpoints(tmp_path, keep=9, model=model)
    model.fit(data, epochs=5, verbose=0, callbacks=[SaveEveryEpoch(checkpoints, every=2)])
    assert checkpoints.steps() == [2, 4, 5]


@pytest.mark.parametrize("harm", ["loss", "weight"])
def test_what_is_not_finite_is_not_saved(tmp_path, harm):
    model, _ = network()
    checkpoints = Checkpoints(tmp_path, model=model)
    save = SaveEveryEpoch(checkpoints)
    save.set_model(model)
    save.on_epoch_end(0, {"loss": 1.0})
    if harm == "weight":
        model.layers[0].kernel.assign([[1.0], [np.nan]])
    with pytest.raises(UserError, match=f"Epoch 2 ended with .*{'kernel' if harm == 'weight' else 'loss'}"):
        save.on_epoch_end(1, {"loss": 1.0 if harm == "weight" else np.nan})
    assert checkpoints.latest()[0] == 1


# TensorBoardScalars


def events(directory):
    found = []
    # Two files of one second differ in a number at the end, of which 10 comes before 9 by name.
    for file in sorted(directory.glob("events*"), key=lambda file: file.stat().st_mtime_ns):
        for record in tf.data.TFRecordDataset(str(file)):
            event = tf.compat.v1.Event.FromString(record.numpy())
            found += [(v.tag, event.step, float(tf.make_ndarray(v.tensor))) for v in event.summary.value]
    return found


def test_scalars_of_a_resumed_run_have_no_gap_and_no_repetition(tmp_path):
    for first, last in ((0, 2), (1, 4)):  # the second epoch was written, but not saved before the kill
        model, data = network()
        scalars = TensorBoardScalars(tmp_path, extra=lambda: {"mu/stem": np.float32(1.5), "channels/stem": 24})
        model.fit(data, epochs=last, initial_epoch=first, verbose=0, callbacks=[scalars])
    found = events(tmp_path)
    assert sorted({tag for tag, _, _ in found}) == ["channels/stem", "loss", "mu/stem"]
    for tag in ("loss", "mu/stem", "channels/stem"):
        assert [step for name, step, _ in found if name == tag] == [1, 2, 3, 4]
    assert ("mu/stem", 3, 1.5) in found and ("channels/stem", 3, 24.0) in found


def test_event_files_torn_by_a_kill(tmp_path):
    scalars = TensorBoardScalars(tmp_path)
    for step in (1, 2, 3):
        scalars.write(step, {"loss": tf.constant(float(step))})
    scalars.close()
    (file,) = tmp_path.glob("events*")
    file.write_bytes(file.read_bytes()[:-5])
    assert last_steps(tmp_path) == {"loss": 2}
    again = TensorBoardScalars(tmp_path)
    again.write(3, {"loss": 3.0})
    again.close()
    assert last_steps(tmp_path) == {"loss": 3}
