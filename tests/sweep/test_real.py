"""A sweep of a real recipe on the images that come with tfbnas, as small as it can be."""

from __future__ import annotations

import json
import zipfile

import pytest

SMALLEST = {
    "network.n": 1,
    "network.base": 4,
    "search.epochs": 2,
    "search.warm_up_epochs": 1,
    "search.batch_size": 256,
    "train.epochs": 1,
    "train.batch_size": 256,
    "baselines.plain": "false",
    "export.images": 8,
    "precision": "float32",
    "data.held_out": 280,
}


@pytest.mark.slow
def test_two_budgets_of_the_resnet_fabric(start, tmp_path):
    run_dir = tmp_path / "run"
    settings = [text for name, value in SMALLEST.items() for text in (f"--{name}", str(value))]
    process = start("bsn_resnet_fabric", "--budgets", "5", "7", "--workers", "2", "--run_dir", str(run_dir), *settings)
    output = process.communicate(timeout=500)[0]
    assert process.returncode == 0, output
    content = json.loads((run_dir / "sweep.json").read_text())
    assert content["unit"] == "steps" and content["front_by"] == "validation_accuracy" and content["front"]
    budgets = {point["name"]: point["budget"] for point in content["points"]}
    for row in content["trials"]:
        assert 2 <= row["cost"] <= budgets[row["point"]] and 0 < row["accuracy"] < 1 and row["memory"] > 0
        assert (run_dir / row["run_dir"] / "report.html").exists()
    for name in [row["name"] for row in content["trials"] if row["point"] in content["front"]]:
        assert (run_dir / "front" / f"{name}.tflite").stat().st_size > 1000
        with zipfile.ZipFile(run_dir / "front" / f"{name}.tflite") as archive:
            labels = archive.read("labels.txt").decode()
        assert labels == (run_dir / "front" / "labels.txt").read_text()
        assert labels.split() == [
            "airplane",
            "automobile",
            "bird",
            "cat",
            "deer",
            "dog",
            "frog",
            "horse",
            "ship",
            "truck",
        ]
    assert output.strip().splitlines()[-1] == str(run_dir)
