"""Architectures as data: JSON in and out, ids that never change, damage that is told."""

import json
from dataclasses import replace

import numpy as np
import pytest

from tfbnas.architecture import Architecture
from tfbnas.errors import UserError

SAMPLE = Architecture("dms", "resnet18", {"stem": 17, "stage2/stream": 40}, (32, 32, 3), 10, {"base": 16})


def test_round_trip(tmp_path):
    SAMPLE.save(tmp_path / "a" / "architecture.json")
    loaded = Architecture.load(tmp_path / "a" / "architecture.json")
    assert loaded == SAMPLE and loaded.id == SAMPLE.id
    assert Architecture.from_dict(SAMPLE.to_dict()) == SAMPLE
    assert Architecture.from_dict(json.loads(json.dumps(SAMPLE.to_dict()))) == SAMPLE


def test_the_file_is_plain_json(tmp_path):
    SAMPLE.save(tmp_path / "architecture.json")
    assert json.loads((tmp_path / "architecture.json").read_text()) == {
        "format": 2,
        "id": SAMPLE.id,
        "method": "dms",
        "network": "resnet18",
        "choices": {"stem": 17, "stage2/stream": 40},
        "input_shape": [32, 32, 3],
        "classes": 10,
        "options": {"base": 16},
    }


def test_ids_stay_what_they_are():
    """Literal: files that users have must keep their ids in every later version."""
    assert SAMPLE.id == "93e4184987ce"
    assert Architecture("uniform", "vgg11", {}).id == "0ca56ccd76fd"


def test_id_is_that_of_the_network():
    same = Architecture("uniform", "resnet18", {"stage2/stream": 40, "stem": 17}, [32, 32, 3], 10, {"base": 16})
    assert same.id == SAMPLE.id and same != SAMPLE
    others = [
        replace(SAMPLE, network="vgg11"),
        replace(SAMPLE, choices={"stem": 18, "stage2/stream": 40}),
        replace(SAMPLE, choices={"stem": 17}),
        replace(SAMPLE, input_shape=(32, 33, 3)),
        replace(SAMPLE, classes=11),
        replace(SAMPLE, options={}),
    ]
    assert len({SAMPLE.id, *(other.id for other in others)}) == 7


def test_architectures_can_be_keys():
    assert len({SAMPLE, replace(SAMPLE), replace(SAMPLE, classes=5)}) == 2


def test_numbers_of_numpy_become_plain():
    choices = {"stem": np.int64(17), "stage2/stream": np.array(40), "kinds": (1, 2)}
    found = Architecture("dms", "resnet18", choices, np.array([32, 32, 3]), np.int32(10))
    assert found.choices == {"stem": 17, "stage2/stream": 40, "kinds": [1, 2]}
    assert type(found.classes) is int and found.input_shape == (32, 32, 3)
    assert Architecture.from_dict(json.loads(json.dumps(found.to_dict()))) == found


def test_later_changes_of_the_arguments_are_not_seen():
    choices = {"stem": 17}
    found = Architecture("dms", "resnet18", choices)
    choices["stem"] = 5
    assert found.choices == {"stem": 17}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classes": 0}, "`classes` to be a positive integer. Received: classes=0"),
        ({"classes": "10"}, "Received: classes='10'"),
        ({"classes": 2.5}, "Received: classes=2.5"),
        ({"input_shape": (32, 32)}, "`input_shape` to be 3 positive integers. Received: input_shape=\\(32, 32\\)"),
        ({"input_shape": (32, 0, 3)}, "Received: input_shape=\\(32, 0, 3\\)"),
        ({"input_shape": 32}, "Received: input_shape=32"),
        ({"choices": [1, 2]}, "`choices` to map names to values. Received: \\[1, 2\\]"),
        ({"choices": {"stem": object()}}, "`choices` to hold JSON values. Received: "),
        ({"options": None}, "`options` to map names to values. Received: None"),
    ],
)
def test_what_no_network_can_have_is_refused(change, message):
    with pytest.raises(UserError, match=message):
        replace(SAMPLE, **change)


def damaged(tmp_path, change):
    path = tmp_path / "architecture.json"
    SAMPLE.save(path)
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(format=3), "format 2 or older. Received: format=3. Update tfbnas"),
        (lambda c: c.update(format="2"), "Received: format='2'"),
        (lambda c: c.update(format=True), "Received: format=True"),
        (lambda c: c.pop("format"), "Received: format=None"),
        (lambda c: c.pop("network"), "Expected the keys of an Architecture. Received: .*'network'"),
        (lambda c: c.update(colour="red"), "'colour'"),
        (lambda c: c["choices"].update(stem=18), "does not hold the architecture that its id .* names"),
    ],
)
def test_damaged_files_are_told(tmp_path, change, message):
    with pytest.raises(UserError, match=message):
        Architecture.load(damaged(tmp_path, change))


@pytest.mark.parametrize(("binary", "binarisation"), [(True, "zero_alpha"), (False, "float")])
def test_reads_format_1(tmp_path, binary, binarisation):
    """Its options said `binary`; its id is that of its own content."""
    old = replace(SAMPLE, options={"base": 16, "binary": binary})
    path = tmp_path / "architecture.json"
    path.write_text(json.dumps({**old.to_dict(), "format": 1, "id": old.id}))
    loaded = Architecture.load(path)
    assert loaded == replace(SAMPLE, options={"base": 16, "binarisation": binarisation}) and loaded.id != old.id
    assert Architecture.from_dict({**SAMPLE.to_dict(), "format": 1}) == SAMPLE
    assert Architecture.from_dict(old.to_dict()) == old  # of format 2: an option of somebody's own
    path.write_text(json.dumps({**old.to_dict(), "format": 1, "id": SAMPLE.id}))
    with pytest.raises(UserError, match="does not hold the architecture"):
        Architecture.load(path)


def test_edited_on_purpose_without_its_id(tmp_path):
    def edit(content):
        content["choices"]["stem"] = 18
        del content["id"]

    assert Architecture.load(damaged(tmp_path, edit)).choices["stem"] == 18


@pytest.mark.parametrize("text", ["", "{", "[1, 2]", "null", '{"format": 1'])
def test_files_that_are_no_architecture(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(UserError, match=f"{tmp_path}/a.json"):
        Architecture.load(tmp_path / "a.json")
