"""Wrong inputs that nobody thought of when the code was written: one sentence each, before anything is trained."""

import numpy as np
import pytest
import tensorflow as tf

import tfbnas
from tfbnas import UserError, data, training
from tfbnas.architecture import Architecture
from tfbnas.costs import Budget, Latency, Memory
from tfbnas.files import write_json
from tfbnas.networks import build, register
from tfbnas.predict import main as predict
from tfbnas.recipes.recipe import Recipe
from tfbnas.report.__main__ import main as report

PIXELS = np.zeros((8, 8, 8, 3), np.uint8)
IMAGES = PIXELS.astype(np.float32)
LABELS = np.arange(8) % 4


def search():
    return tfbnas.DMS(
        "test-small", budget=Budget(Memory(), 1500.0), input_shape=(8, 8, 3), classes=4, rounds=2, batch_size=4
    )


def fit(images, labels, batch=True, **arguments):
    batches = tf.data.Dataset.from_tensor_slices((images, labels) if labels is not None else images)
    batches = batches.batch(4) if batch else batches
    compiled = search()
    compiled.compile("sgd", "adam")
    compiled.fit(batches, batches, verbose=False, **arguments)


def photographs():
    return data.from_arrays(PIXELS, LABELS)


def fabric(**options):
    return Architecture("", "resnet_fabric", {}, options={"n": 1, **options})


LIBRARY = {
    "a file's name for its content": (lambda: Architecture.from_dict("architecture.json"), "Architecture.load"),
    "a family named like a module": (lambda: register("my:network", lambda choose: None), "without a colon"),
    "a family without a builder": (lambda: register("mine", "builder"), "`builder` to be a function"),
    "fit before compile": (lambda: search().fit(IMAGES, LABELS), r"search.compile\(\*\*search.optimizers\(train\)\)"),
    "an epoch beyond the last": (
        lambda: fit(IMAGES, LABELS, initial_epoch=3),
        r"in 0\.\.2. Received: initial_epoch=3",
    ),
    "an epoch before the first": (lambda: fit(IMAGES, LABELS, initial_epoch=-1), "Received: initial_epoch=-1"),
    "images alone": (lambda: fit(IMAGES, None), r"batches \(images, labels\). Received: elements TensorSpec"),
    "single images": (lambda: fit(IMAGES, LABELS, batch=False), r"8x8x3. Take dataset.batch\(64\)"),
    "pixels of bytes": (lambda: fit(PIXELS, LABELS), "images of uint8.* / 127.5 - 1"),
    "labels one-hot": (lambda: fit(IMAGES, np.eye(4)[LABELS]), "labels of float64.*tf.argmax"),
    "images of another size": (lambda: fit(IMAGES[:, :4], LABELS), "images of 8x8x3.*Received: 4x8x3"),
    "a size as a text": (lambda: data.load(image_size="32"), "`image_size`.* number of pixels.* Received: '32'"),
    "a memory with its unit": (lambda: data.load(memory_limit="1 GiB"), "`memory_limit`.* of bytes.* '1 GiB'"),
    "a memory below zero": (lambda: data.load(memory_limit=-5), "`memory_limit`.*at least 0. Received: -5"),
    "a split without a name": (lambda: data.load(test_split=""), "`test_split`.* Received: ''; it has test, train"),
    "a share of the images": (lambda: photographs().take(0.5, seed=0), r"take 1\.\.8 images.*Received: 0.5"),
    "no images at all": (lambda: photographs().images(0), "`n` to be an integer of at least 1.*Received: n=0"),
    "a batch size as a text": (lambda: photographs().steps("4"), "batch_size='4'"),
    "classes as a text": (lambda: data.from_arrays(PIXELS, LABELS, classes="4"), "Received: classes='4'"),
    "blocks as a text": (lambda: build(fabric(n="3")), "`n` and `base` of resnet_fabric.* n='3'"),
    "scales as a text": (lambda: build(Architecture("", "cnf", {}, options={"scales": "3"})), "scales='3'"),
    "memory of a Keras model": (lambda: Memory().of(build(fabric())), "Expected an Architecture. Received: <"),
    "memory of a name": (lambda: Memory().of("vgg11"), r"Received: 'vgg11'; Architecture.load\(path\)"),
    "a ratio below zero": (lambda: training.uniform(fabric(), {"a": 4}, -1), "positive number. Received: ratio=-1"),
    "an unknown optimiser": (lambda: search().compile("sgdd", "adam"), "`weight_optimizer` to be .* Received: 'sgdd'"),
    "one optimiser of two": (lambda: search().compile("sgd"), "`architecture_optimizer`.*Received: None"),
    "steps of a whole data set": (lambda: search().optimizers(data.load()), "images.train.*Received: ImageData"),
    "a rate without end": (lambda: tfbnas.DMS("test-small", budget=Budget(Memory(), 1e3), learning_rate=np.inf), "inf"),
}


@pytest.mark.parametrize("name", LIBRARY)
def test_in_a_program(name):
    work, expected = LIBRARY[name]
    with pytest.raises(UserError, match=expected) as caught:
        work()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("operators", [[], {"dense": {}}, {"dense": "fast"}])
def test_a_latency_table_without_its_operators(operators, tmp_path):
    known = Latency("pixel1").table
    write_json(tmp_path / "mine.json", {**known, "operators": operators})
    with pytest.raises(UserError, match="`operators` with their `terms`.*mine.json") as caught:
        Latency(tmp_path / "mine.json")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("option", "value", "expected"),
    [
        ("train.weight_decay", ".nan", "`train.weight_decay` to be at least 0. Received: weight_decay=nan"),
        ("search.momentum", ".nan", "`search.momentum` to be in 0..1. Received: momentum=nan"),
        ("train.cutout", "33", "on images of 32x32 pixels; half of their side is usual. Received: 33"),
        ("train.label_smoothing", "1", "`train.label_smoothing` to be in"),
        ("train.learning_rate", ".inf", "`train.learning_rate` to be finite. Received"),
        ("budget.memory", ".inf", "`budget.memory` to be finite. Received"),
        ("budget.penalty_weight", ".nan", "penalty_weight=nan"),
    ],
)
def test_numbers_that_are_none(option, value, expected, tmp_path, capsys):
    with pytest.raises(SystemExit) as exit_code:
        Recipe("dms_vgg11").main([f"--{option}", value, "--run_dir", str(tmp_path / "run")])
    (line,) = capsys.readouterr().err.splitlines()
    assert exit_code.value.code == 2 and line.startswith("error: ") and expected in line
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("option", ["run_dir", "config", "preset"])
def test_variables_of_a_script_that_are_not_set(option, tmp_path, monkeypatch, capsys):
    """Else the run would be the usual one, in a directory of its own."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as exit_code:
        Recipe("dms_vgg11").main([f"--{option}", ""])
    assert exit_code.value.code == 2
    assert capsys.readouterr().err == f"error: Expected a value after --{option}. Received: an empty text.\n"
    assert not list(tmp_path.iterdir())


def test_a_report_of_a_directory_that_is_no_run(tmp_path, capsys):
    (tmp_path / "letters").mkdir()
    assert report([str(tmp_path / "letters")]) == 2
    assert "no settings.yaml" in capsys.readouterr().err and not list((tmp_path / "letters").iterdir())


@pytest.mark.parametrize(("option", "expected"), [("options", "like {a: 1}."), ("also", "like {a: 1}, each a number.")])
def test_a_list_for_names_with_values(option, expected, capsys):
    group = "network" if option == "options" else "budget"
    with pytest.raises(SystemExit):
        Recipe("dms_vgg11").main([f"--{group}.{option}", "[1]"])
    assert f"to be names with values {expected}" in capsys.readouterr().err


def test_a_table_where_nothing_can_be_written(exported, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert predict([str(exported), "--dir", str(exported), "--csv", str(tmp_path / "file" / "out.csv")]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert "Expected a path that can be read and written" in line and str(tmp_path / "file") in line
