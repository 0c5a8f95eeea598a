"""What the page says of networks that classify every pixel, and how it names networks."""

from __future__ import annotations

import json

import pytest
import report_samples as samples

from tfbnas.report import exported, summary, trained, write
from tfbnas.report.methods import method_named
from tfbnas.report.reading import read


def change(file, **values):
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


@pytest.fixture
def directory(tmp_path):
    """A run whose two networks classify pixels."""
    path = samples.run(tmp_path, samples.TINY, "cnf", uniform=(1,))
    (path / "stages/train-equal-memory.json").unlink()
    for key, mean_iou in (("searched", 0.54321), ("uniform-1.00", 0.5)):
        test = samples.take(path, f"train-{key}").test
        samples.change(path, f"train-{key}", test={**test, "mean_iou": mean_iou})
    parity = {**samples.export(samples.TINY)["parity"], "other_class": [17], "pixels": 262144, "other_pixels": 3}
    change(path / "export.json", parity=parity)
    return path


def test_mean_iou_stands_beside_the_accuracy_of_pixels(directory):
    run = read(directory)
    rows = {row.label: row for row in trained.table(run, []).rows}
    assert rows["DMS"].cells[1] == "54.32" and rows["BNN 1x"].cells[1] == "50.00"
    text = write(directory).read_text(encoding="utf-8")
    heads = text.split('<table class="results">')[1].split("</thead>")[0]
    assert heads.index("test pixels, %") < heads.index("Mean IoU") < heads.index("Memory")
    searched = next(line for line in text.split("<tr ") if ">DMS</th>" in line)
    assert searched.count("<td") == 5 and searched.index(rows["DMS"].cells[0]) < searched.index("54.32")
    assert "% of the test pixels correctly (mean IoU 54.32 %)" in text
    assert [tile.value for tile in summary.tiles(run) if tile.name == "Mean IoU"] == ["54.32"]
    assert "standard error" not in text  # neighbouring pixels are no independent samples


def test_parity_of_pixels(directory):
    facts = dict(exported.facts(read(directory)))["Parity with the trained model"]
    assert ("Pixels of the same class", "262\N{NO-BREAK SPACE}141 of 262\N{NO-BREAK SPACE}144") in facts
    assert ("Same class at every pixel", "255 of 256") in facts
    assert "Same predicted class" not in dict(facts)


def test_networks_that_classify_images_have_no_mean_iou(tmp_path):
    run = read(samples.run(tmp_path, samples.TINY, "vgg11", uniform=(1,)))
    text = write(tmp_path).read_text(encoding="utf-8")
    assert "Mean IoU" not in text and "pixels" not in summary.lead(run, method_named("dms"))
    facts = dict(dict(exported.facts(run))["Parity with the trained model"])
    assert facts["Same predicted class"] == "256 of 256" and not any("ixel" in name for name in facts)


@pytest.mark.parametrize(
    ("recipe", "network", "data", "expected"),
    [
        ("bsn_resnet_fabric", "resnet_fabric", "cifar10", "ResNet Fabric, searched with BSN on CIFAR-10"),
        ("bsn_cnf", "cnf", "cifar100", "CNF, searched with BSN on CIFAR-100"),
        ("bsn_cnf_segmentation", None, "part_labels", "CNF, searched with BSN on Part Labels"),
        ("dms_resnet18", "resnet18", "imagenet2012", "ResNet-18, searched with DMS on ImageNet"),
        ("dms_own", "own", "x", "own, searched with DMS on x"),
    ],
)
def test_titles_name_networks_as_people_do(recipe, network, data, expected, tmp_path):
    (tmp_path / "settings.yaml").write_text(
        f"recipe: {recipe}\nnetwork: {{n: 3}}\nsearch: {{}}\ndata: {{name: {data}}}\n"
    )
    if network:
        (tmp_path / "architecture.json").write_text(json.dumps({"method": recipe[:3], "network": network}))
    run = read(tmp_path)
    assert summary.title(run, method_named(run.method)) == expected
