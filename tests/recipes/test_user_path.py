"""The way of a user: own photographs and network, a search, the report, and a new photograph without tfbnas."""

import html
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

README = (Path(__file__).resolve().parents[2] / "README.md").read_text(encoding="utf-8")
(BUILDER,) = re.findall(r"```python\n([^`]*def small[^`]*)```", README)


def test_from_a_folder_to_a_prediction_without_tfbnas(command, start, tmp_path):
    """Snippets of the report are pasted into processes that cannot import tfbnas; new photographs are told apart."""
    run = tmp_path / "my run"
    (tmp_path / "my_network.py").write_text(BUILDER, encoding="utf-8")  # where the command is started
    options = {"search__rounds": 1, "train__epochs": 12, "baselines__ratios": "[]", "budget__memory": 0.004}
    process = start(command(run, network__family="my_network:small", **options))
    output, _ = process.communicate(timeout=400)
    assert process.returncode == 0, output
    page = (run / "report.html").read_text(encoding="utf-8")
    snippets = [html.unescape(code) for code in re.findall(r'<pre class="snippet">(.*?)</pre>', page, re.DOTALL)]
    assert len(snippets) == 3
    chance = np.random.default_rng(5)
    # The first runs SavedModel with TensorFlow alone, the last one model.tflite by LCE's interpreter.
    for name, darkest, code in (("dark", 0, snippets[0]), ("light", 127, snippets[2])):
        photo = (chance.integers(0, 128, (96, 64, 3)) + darkest).astype(np.uint8)
        (tmp_path / "photo.jpg").write_bytes(tf.io.encode_jpeg(photo, quality=95).numpy())
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        blocked = f"import sys\nsys.modules['tfbnas'] = None\n{code}"
        done = subprocess.run(
            [sys.executable, "-c", blocked], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=200
        )
        assert done.returncode == 0, done.stderr
        shares = {label: float(share) for label, share in re.findall(r"^(\w+) (\d+\.\d) %$", done.stdout, re.MULTILINE)}
        assert set(shares) == {"dark", "light"} and sum(shares.values()) == pytest.approx(100, abs=0.2)
        assert max(shares, key=shares.get) == name, done.stdout
