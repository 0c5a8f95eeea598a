"""Part Labels: images made in the official layout come out padded, with their classes; what is wrong is named."""

import shutil
import warnings

import numpy as np
import pytest
from PIL import Image

import tfbnas  # noqa: F401
from tfbnas import data
from tfbnas.errors import UserError

pytestmark = pytest.mark.filterwarnings("ignore:.*officially")

COLOURS = {"background": (0, 0, 255), "hair": (255, 0, 0), "skin": (0, 255, 0)}
LISTS = {"train": ["Ann_Lee 1", "Ann_Lee 12", "Bob 3", "Bob 4"], "validation": ["Cy_de_la_Rue 1"], "test": ["Dee_O 7"]}


def a_label_image(seed):
    classes = np.random.default_rng(seed).integers(0, 3, (10, 10)).repeat(25, 0).repeat(25, 1)
    return classes, np.array(list(COLOURS.values()), np.uint8)[classes]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A directory in the official layout, and {name: (JPEG as decoded, classes)}."""
    root, expected = tmp_path_factory.mktemp("lfw"), {}
    (root / "parts_lfw_funneled_gt_images").mkdir()
    for split, lines in LISTS.items():
        (root / f"parts_{split}.txt").write_text("".join(f"{line}\n" for line in lines))
        for line in lines:
            person, number = line.split()
            name = f"{person}_{number.zfill(4)}"
            classes, colours = a_label_image(len(expected))
            pixels = np.random.default_rng(len(expected)).integers(0, 256, (10, 10, 3), np.uint8)
            jpeg = root / "lfw_funneled" / person / f"{name}.jpg"
            jpeg.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.repeat(25, 0).repeat(25, 1)).save(jpeg)
            Image.fromarray(colours).save(root / "parts_lfw_funneled_gt_images" / f"{name}.ppm")
            expected[name] = np.asarray(Image.open(jpeg)), classes
    return root, expected


@pytest.fixture(scope="module")
def prepared(made, tmp_path_factory):
    from tfbnas.data.part_labels import prepare

    out = tmp_path_factory.mktemp("tfds")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        written = prepare(made[0], out)
    assert written == out / "part_labels" / "1.0.0"
    return out


@pytest.fixture
def copy(made, tmp_path):
    return shutil.copytree(made[0], tmp_path / "copy")


def refused(match, root):
    from tfbnas.data.part_labels import prepare

    with pytest.raises(UserError, match=match) as caught:
        prepare(root, root / "out")
    assert "\n" not in str(caught.value)
    assert not (root / "out" / "part_labels" / "1.0.0").exists()


def test_ppm_are_raw_as_the_official_ones(made):
    assert (made[0] / "parts_lfw_funneled_gt_images" / "Bob_0003.ppm").read_bytes().startswith(b"P6")


def test_pixels_and_classes_of_every_image(made, prepared):
    loaded = data.load("part_labels", data_dir=prepared, validation_split="validation")
    assert loaded.input_shape == (256, 256, 3) and loaded.class_names == tuple(COLOURS) and loaded.segmentation
    sizes = {name: getattr(loaded, name).size for name in LISTS}
    assert sizes == {name: len(lines) for name, lines in LISTS.items()}
    found = {}
    for split in (loaded.train, loaded.validation, loaded.test):
        images, labels = split.images(split.size)
        assert images.dtype == np.float32 and labels.dtype == np.int32 and labels.shape[1:] == (256, 256)
        found.update({label.tobytes(): image for image, label in zip(images, labels, strict=True)})
    assert len(found) == 6
    for photograph, classes in made[1].values():
        image = found[np.pad(classes, 3).astype(np.int32).tobytes()]
        np.testing.assert_allclose(image, np.pad(photograph, [(3, 3), (3, 3), (0, 0)]) / 127.5 - 1, atol=1e-6)


def test_tfds_itself_reads_it(prepared):
    import tensorflow_datasets

    builder = tensorflow_datasets.builder_from_directory(prepared / "part_labels" / "1.0.0")
    assert builder.info.features["segmentation_mask"].names == list(COLOURS)
    image, label = next(iter(builder.as_dataset(split="test", as_supervised=True)))
    assert image.shape == (256, 256, 3) and label.shape == (256, 256, 1)


def test_scaled_label_maps_stay_classes(prepared):
    images, labels = data.load("part_labels", data_dir=prepared, image_size=64).test.images(1)
    whole = data.load("part_labels", data_dir=prepared).test.images(1)[1]
    assert images.shape == (1, 64, 64, 3) and set(np.unique(labels)) <= {0, 1, 2}
    # Nearest of four: the pixel right of the middle.
    np.testing.assert_array_equal(labels, whole[:, 2::4, 2::4])


def test_too_large_for_memory_says_so(prepared):
    with pytest.raises(UserError, match="label maps to fit in memory.*memory_limit.*image_size"):
        data.load("part_labels", data_dir=prepared, memory_limit=10**6)


def test_not_prepared_names_the_tool(made, tmp_path):
    with pytest.raises(UserError, match="'part_labels' has not been prepared in .*prepare_part_labels.py"):
        data.load("part_labels", data_dir=tmp_path)
    with pytest.raises(UserError, match="Part Labels in its official layout.*prepare_part_labels.py"):
        data.load(str(made[0]))


def test_missing_things_are_named_with_their_source(copy, tmp_path):
    refused("nowhere', which does not exist; unpack http.*lfw-funneled.tgz", tmp_path / "nowhere")
    (copy / "lfw_funneled/Bob/Bob_0003.jpg").unlink()
    refused("Bob_0003.jpg is missing, but .*parts_train.txt lists it.*lfw-funneled.tgz", copy)
    (copy / "lfw_funneled/Bob/Bob_0004.jpg").rename(copy / "lfw_funneled/Bob/Bob_0003.jpg")
    shutil.rmtree(copy / "parts_lfw_funneled_gt_images")
    refused("parts_lfw_funneled_gt_images is missing. It comes from .*gt_images.tgz", copy)
    (copy / "parts_validation.txt").unlink()
    refused("(parts_validation.txt|gt_images) is missing", copy)


def test_lists_that_are_damaged(copy):
    train = copy / "parts_train.txt"
    train.write_text("Ann_Lee 1\n<html>\n")
    refused("a name and a number in .*parts_train.txt. Received: '<html>' in line 2", copy)
    train.write_text("Dee_O 7\n")
    refused("Dee_O_0007 in .*parts_test.txt and in .*parts_train.txt", copy)
    train.write_text("\n")
    refused("parts_train.txt lists no images", copy)


def test_damaged_image_and_label_image(copy):
    for file in ("lfw_funneled/Bob/Bob_0003.jpg", "parts_lfw_funneled_gt_images/Bob_0003.ppm"):
        whole = (copy / file).read_bytes()
        for damaged in (whole[: len(whole) // 2], b"", b"no image"):
            (copy / file).write_bytes(damaged)
            refused(f"{file} is damaged: ", copy)
        (copy / file).write_bytes(whole)


def test_sizes_and_colours_that_do_not_fit(copy):
    ppm, jpg = copy / "parts_lfw_funneled_gt_images/Bob_0003.ppm", copy / "lfw_funneled/Bob/Bob_0003.jpg"
    colours = a_label_image(0)[1].copy()
    colours[7, 9] = (255, 255, 0)
    Image.fromarray(colours).save(ppm)
    refused(r"colour \(255, 255, 0\) at row 7, column 9 of .*Bob_0003.ppm \(such pixels: 1\)", copy)
    Image.fromarray(colours[:240]).save(ppm)
    refused("Bob_0003.jpg of 250x250 and .*Bob_0003.ppm of 250x240 pixels", copy)
    Image.fromarray(colours[:240]).save(jpg)
    refused("250x250 pixels. Received: .*Bob_0003.jpg of 250x240", copy)


def test_other_counts_are_worth_a_warning(made):
    from tfbnas.data.part_labels import read_lists

    with pytest.warns(UserWarning, match="parts_test.txt lists 1 images; officially there are 927") as caught:
        assert read_lists(made[0])["train"][1] == "Ann_Lee_0012"
    assert len(caught) == 3


def test_tool(made, tmp_path, capsys):
    import prepare_part_labels

    assert prepare_part_labels.main([str(made[0]), "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr()
    assert f"Wrote {tmp_path}" in printed.out and printed.err.count("warning: ") == 3
    assert data.load(str(tmp_path)).train.size == 4
    assert prepare_part_labels.main([str(tmp_path / "gone")]) == 2
    assert "error: Expected the directory of Part Labels" in capsys.readouterr().err
