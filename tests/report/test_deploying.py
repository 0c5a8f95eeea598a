"""The report's snippets are run as they stand on the page: with the run's own files, in processes without tfbnas."""

import contextlib
import html
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from tfbnas import predict
from tfbnas.device.__main__ import _parser
from tfbnas.export import export
from tfbnas.report import deploying, summary, write
from tfbnas.report.reading import read


def on_the_page(directory):
    found = re.findall(r'<pre class="snippet">(.*?)</pre>', write(directory).read_text(encoding="utf-8"), re.DOTALL)
    return [html.unescape(code) for code in found]


@pytest.fixture(scope="module")
def run(exported, tmp_path_factory):
    """A directory whose name needs care: with a space and quotes."""
    return shutil.copytree(exported, tmp_path_factory.mktemp("runs") / 'it\'s a "run"')


@pytest.mark.parametrize("number", [0, 1, 2], ids=["saved_model", "keras", "lce"])
def test_they_say_what_tfbnas_says(number, run, tmp_path):
    shutil.copy(run / "photo.jpg", tmp_path)
    # What tfbnas set for this process would hide that an application has to set it.
    environment = {name: value for name, value in os.environ.items() if name != "TF_USE_LEGACY_KERAS"}
    code = "import sys\nsys.modules['tfbnas'] = None\n" + on_the_page(run)[number]
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    shares = {name: float(share) for name, share in re.findall(r"^(\w+) (\d+\.\d) %$", done.stdout, re.MULTILINE)}
    assert list(shares) == ["ant", "bee", "cat", "dog"]
    best, _ = predict.Classifier(run).predict(run / "photo.jpg", top=1).classes[0]
    assert max(shares, key=shares.get) == best


def test_grey_images_a_class_for_each_pixel_and_normalised_input(tmp_path, monkeypatch):
    """The other forms of the snippets, by all three ways, against counting by hand."""
    chance = np.random.default_rng(0)
    pixels = chance.integers(0, 256, (6, 8, 1), np.uint8)
    inputs = tf.keras.Input((6, 8, 1))
    model = tf.keras.Model(inputs, tf.keras.layers.Conv2D(3, 1, name="answer")(inputs))
    model.get_layer("answer").set_weights([np.array([-2.0, 0.3, 2.0]).reshape(1, 1, 1, 3), np.array([0.0, 0.4, 0.0])])
    images, names = (pixels[None] / 127.5 - 1).astype(np.float32), ("dark", "middle", "bright")
    export(model, tmp_path, images=images, input="normalised", class_names=names)
    (tmp_path / "photo.jpg").write_bytes(tf.io.encode_png(pixels).numpy())  # the content tells what it is
    values = images.reshape(-1)
    found = np.argmax([-2 * values, 0.3 * values + 0.4, 2 * values], axis=0)
    wanted = [f"{name} {100 * (found == number).mean():.1f} % of the pixels" for number, name in enumerate(names)]
    monkeypatch.chdir(tmp_path)
    codes = on_the_page(tmp_path)
    assert len(codes) == 3 and all("pixels[None] / 127.5 - 1" in code for code in codes)
    for code in codes:
        with contextlib.redirect_stdout(io.StringIO()) as said:
            exec(compile(code, "snippet", "exec"), {})
        assert said.getvalue().splitlines() == wanted


def test_the_page_says_what_the_model_takes_and_answers(run):
    text = write(run).read_text(encoding="utf-8")
    said = "The model takes RGB images of 8 × 8 with values 0..255, and answers with a logit for each of the classes "
    assert f"{said}ant, bee, cat, dog, in this order. Each of its files says so." in text
    assert "docs/deploy.md" in text and "Raspberry Pi and on Android" in text


def test_a_model_of_which_nothing_is_known_has_no_snippets(run, tmp_path):
    content = json.loads((run / "export.json").read_text())
    for changed in ({"input": None}, {"input": {"range": "0..1"}}, {"input": 3}, {"class_names": []}):
        (tmp_path / "export.json").write_text(json.dumps({**content, **changed}))
        assert deploying.snippets(read(tmp_path)) == []
        assert not on_the_page(tmp_path)
    (tmp_path / "export.json").write_text(json.dumps({**content, "class_names": [f"n{i}" for i in range(1000)]}))
    assert "n11, … (1000 in all), in this order" in deploying.takes(read(tmp_path))


def test_the_benchmark_command_is_complete(tmp_path):
    """Its program's own parser takes it, and nothing that ssh needs is missing."""
    (tmp_path / "settings.yaml").write_text("recipe: dms_vgg11\n")
    command = summary.commands(read(tmp_path)).benchmark
    program, arguments = shlex.split(command)[:3], shlex.split(command)[3:]
    assert program == ["python", "-m", "tfbnas.device"]
    options = _parser().parse_args(arguments)
    assert options.binary == "lce_benchmark_model_aarch64" and options.target.startswith("ssh:")
    assert (options.model, options.json) == (str(tmp_path / "model.tflite"), str(tmp_path / "benchmark.json"))
