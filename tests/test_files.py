"""Files appear whole or not at all, whatever ends the process."""

import errno
import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest

from tfbnas import files
from tfbnas.errors import UserError


def names(directory):
    return sorted(path.name for path in directory.iterdir())


def test_text_and_json(tmp_path):
    files.write_text(tmp_path / "sub" / "a.txt", "größer")
    assert (tmp_path / "sub" / "a.txt").read_bytes() == "größer".encode()
    files.write_json(tmp_path / "b.json", {"b": [1, 2.5, None], "a": "x"})
    assert files.read_json(tmp_path / "b.json") == {"a": "x", "b": [1, 2.5, None]}
    assert (tmp_path / "b.json").read_text().startswith('{\n  "a"')
    assert names(tmp_path) == ["b.json", "sub"] and names(tmp_path / "sub") == ["a.txt"]


def test_replaces_files_and_directories(tmp_path):
    for content in ("one", "two"):
        files.write_text(tmp_path / "a.txt", content)
        with files.atomic_write(tmp_path / "d") as temporary:
            temporary.mkdir()
            (temporary / content).write_text(content)
    assert (tmp_path / "a.txt").read_text() == "two"
    assert names(tmp_path) == ["a.txt", "d"] and names(tmp_path / "d") == ["two"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_error_leaves_everything_as_it_was(tmp_path, error):
    files.write_text(tmp_path / "a.txt", "old")
    with pytest.raises(error), files.atomic_write(tmp_path / "a.txt") as temporary:
        temporary.write_text("half")
        raise error
    assert (tmp_path / "a.txt").read_text() == "old" and names(tmp_path) == ["a.txt"]


def test_a_directory_that_cannot_be_replaced_comes_back(tmp_path, monkeypatch):
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "old").touch()
    real = os.replace

    def replace(source, target):
        if str(target) == str(tmp_path / "d") and not str(source).endswith("replaced"):
            raise PermissionError(errno.EACCES, "no")
        real(source, target)

    monkeypatch.setattr(files.os, "replace", replace)
    with pytest.raises(PermissionError), files.atomic_write(tmp_path / "d") as temporary:
        temporary.mkdir()
    assert names(tmp_path) == ["d"] and names(tmp_path / "d") == ["old"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("where", ["mkdtemp", "write", "fsync", "replace"])
def test_a_full_disk_is_one_clear_sentence(tmp_path, monkeypatch, where, code):
    path = tmp_path / "a.json"
    files.write_json(path, [1])

    def full(*arguments, **options):
        raise OSError(code, os.strerror(code))

    if where == "write":
        monkeypatch.setattr(files.Path, "write_text", full)
    else:
        monkeypatch.setattr({"mkdtemp": files.tempfile, "fsync": files.os, "replace": files.os}[where], where, full)
    with pytest.raises(UserError, match=f"The disk is full: {path} could not be written"):
        files.write_json(path, [2])
    monkeypatch.undo()
    assert files.read_json(path) == [1] and names(tmp_path) == ["a.json"]


def test_other_errors_of_the_system_are_not_hidden(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError):
        files.write_text(tmp_path / "file" / "below.txt", "x")


WRITER = """
import sys
from tfbnas.files import atomic_write, write_json
number = 0
while True:
    number += 1
    write_json(sys.argv[1] + "/a.json", [number] * 20000)
    with atomic_write(sys.argv[1] + "/d/") as temporary:
        temporary.mkdir()
        for part in "xyz":
            (temporary / part).write_text(str(number) * 5000)
    print(number, flush=True)
"""


def test_killed_at_any_moment_files_are_whole(tmp_path):
    chance, written, moments = random.Random(0), 0, 12
    for _ in range(moments):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path)],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        )
        process.stdout.readline()  # it writes now
        time.sleep(chance.uniform(0, 0.05))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        content = json.loads((tmp_path / "a.json").read_text())
        assert len(content) == 20000 and len(set(content)) == 1
        written += content[0]
        if (tmp_path / "d").exists():  # between the two renames that replace a directory there is none
            texts = {(tmp_path / "d" / part).read_text() for part in "xyz"}
            assert len(texts) == 1 and len(texts.pop()) >= 5000
    assert written > moments


def test_reading_what_is_missing_or_damaged(tmp_path):
    with pytest.raises(UserError, match="a.json, but there is none"):
        files.read_json(tmp_path / "a.json")
    with pytest.raises(UserError, match="cannot be read"):
        files.read_json(tmp_path)
    for damage in (b'{"a": ', b"\xff\xfe", b""):
        (tmp_path / "a.json").write_bytes(damage)
        with pytest.raises(UserError, match="a.json is damaged: it is not valid JSON"):
            files.read_json(tmp_path / "a.json")
