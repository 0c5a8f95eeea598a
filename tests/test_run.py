import errno
import json
import os
import random
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest
import yaml

from tfbnas import run as run_module
from tfbnas.errors import UserError
from tfbnas.run import RunDirectory

SETTINGS = {"seed": 1, "search": {"rounds": 3, "rate": 1e-05, "widths": (1.0, 2.0)}, "name": None}


def start(code, *arguments):
    """A real process that runs `code`."""
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)], stdout=subprocess.PIPE, text=True
    )


def test_settings_are_written_complete_and_the_same_ones_open_the_directory_again(tmp_path):
    path = tmp_path / "runs" / "first"
    with RunDirectory(path, SETTINGS) as run:
        assert run.path == path
    assert yaml.safe_load((path / "settings.yaml").read_text()) == {
        "seed": 1,
        "search": {"rounds": 3, "rate": 1e-05, "widths": [1.0, 2.0]},
        "name": None,
    }
    RunDirectory(path, SETTINGS).close()


def test_other_settings_are_refused_with_both_values_and_what_to_do(tmp_path):
    RunDirectory(tmp_path / "r", SETTINGS).close()
    other = {"seed": 1, "search": {"rounds": 4, "rate": 1e-05, "widths": (1.0, 2.0), "new": True}, "name": None}
    with pytest.raises(UserError) as error:
        RunDirectory(tmp_path / "r", other)
    text = str(error.value)
    assert "search.rounds was 3, now 4" in text
    assert "search.new was missing, now True" in text
    assert "seed" not in text and "--run_dir" in text and f"--config {tmp_path / 'r' / 'settings.yaml'}" in text
    RunDirectory(tmp_path / "r", SETTINGS).close()  # the refused opening holds no lock


def test_events_of_all_processes_stay_in_order(tmp_path):
    with RunDirectory(tmp_path / "r", {}) as run:
        before = time.time()
        run.log(event="begin", value=np.float32(0.5), count=np.int64(3), shape=(1, 2))
    with RunDirectory(tmp_path / "r", {}) as run:
        run.log(event="end")
        first, second = run.events()
    assert abs(first.pop("time") - before) < 5
    assert first == {"event": "begin", "value": 0.5, "count": 3, "shape": [1, 2]}
    assert second["event"] == "end"


def test_a_torn_last_line_is_passed_over_and_cut_by_the_next_opening(tmp_path):
    with RunDirectory(tmp_path / "r", {}) as run:
        run.log(number=1)
        log = tmp_path / "r" / "log.jsonl"
        with open(log, "a") as stream:
            stream.write('{"number": 2, "text": "cut he')
        assert [event["number"] for event in run.events()] == [1]
    with RunDirectory(tmp_path / "r", {}) as run:
        run.log(number=3)
        assert [event["number"] for event in run.events()] == [1, 3]


def test_a_damaged_line_is_named(tmp_path):
    with RunDirectory(tmp_path / "r", {}) as run:
        run.log(number=1)
        with open(tmp_path / "r" / "log.jsonl", "a") as stream:
            stream.write("#\n")
        with pytest.raises(UserError, match=r"Line 2 of .*log\.jsonl is damaged"):
            run.events()


def test_stages(tmp_path):
    with RunDirectory(tmp_path / "r", {}) as run:
        assert not run.finished("train-uniform-1.00")
        with pytest.raises(UserError, match=r"train-uniform-1\.00\.json"):
            run.result("train-uniform-1.00")
        run.finish("train-uniform-1.00", {"accuracy": np.float64(0.1), "history": [np.arange(2)]})
    with RunDirectory(tmp_path / "r", {}) as run:
        assert run.finished("train-uniform-1.00") and not run.finished("search")
        assert run.result("train-uniform-1.00") == {"accuracy": 0.1, "history": [[0, 1]]}
        assert json.loads((run.path / "stages/train-uniform-1.00.json").read_text())["accuracy"] == 0.1
        assert run.checkpoints("train-uniform-1.00") == run.path / "checkpoints" / "train-uniform-1.00"
        with pytest.raises(ValueError, match="stage='../x'"):
            run.finished("../x")
        with pytest.raises(TypeError, match="that JSON can hold"):
            run.finish("search", {"bad": object()})
        assert not run.finished("search")


def test_two_processes_cannot_use_one_directory_and_the_lock_dies_with_its_holder(tmp_path):
    holder = start(
        """
        import sys, time
        from tfbnas.run import RunDirectory
        run = RunDirectory(sys.argv[1], {})
        print("open", flush=True)
        time.sleep(60)
        """,
        tmp_path / "r",
    )
    try:
        assert holder.stdout.readline() == "open\n"
        with pytest.raises(UserError, match=f"in use by another process .{holder.pid}."):
            RunDirectory(tmp_path / "r", {})
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    RunDirectory(tmp_path / "r", {}).close()


def test_killed_at_any_moment_it_opens_again_and_loses_nothing_that_was_acknowledged(tmp_path):
    code = """
        import sys
        from tfbnas.run import RunDirectory
        run = RunDirectory(sys.argv[1], {"seed": 1})
        number = len(run.events())
        print("open", flush=True)
        while True:
            run.log(number=number, filler="x" * 5000)
            run.finish("count", {"number": number, "filler": "x" * 100000})
            number += 1
            print(number, flush=True)
        """
    chance = random.Random(0)
    logged = finished = 0
    for trial in range(8):
        process = start(code, tmp_path / "r")
        if trial >= 3:  # the first ones are killed while they begin
            process.stdout.readline()
        time.sleep(chance.uniform(0, 0.25))
        process.send_signal(signal.SIGKILL)
        numbers = [int(line) for line in process.communicate()[0].split() if line.isdigit()]
        finished = numbers[-1] if numbers else finished
        with RunDirectory(tmp_path / "r", {"seed": 1}) as run:
            events = run.events()
            assert [event["number"] for event in events] == list(range(len(events)))
            assert len(events) >= max(logged, finished)
            logged = len(events)
            if finished:
                assert run.result("count")["number"] in (logged - 1, logged - 2)
            hidden = [entry for folder in (run.path, run.path / "stages") for entry in folder.glob(".*")]
            assert hidden == [run.path / ".lock"]
    assert finished > 0


def test_a_file_at_the_path_or_above_it(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(UserError, match=f"Received: '{path}'.*--run_dir"):
            RunDirectory(path, {})


def test_a_directory_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "photo.jpg").write_text("")
    with pytest.raises(UserError, match=r"holds 'photo\.jpg' but no settings\.yaml"):
        RunDirectory(tmp_path, {})
    assert not (tmp_path / "settings.yaml").exists()


@pytest.mark.parametrize("content", ["a: [", "- 1\n", "", "\x00"])
def test_damaged_settings(tmp_path, content):
    RunDirectory(tmp_path / "r", {"a": 1}).close()
    (tmp_path / "r" / "settings.yaml").write_text(content)
    with pytest.raises(UserError, match=r"settings\.yaml is damaged"):
        RunDirectory(tmp_path / "r", {"a": 1})


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS])
def test_not_writable(tmp_path, monkeypatch, number):
    def refuse(*_args, **_kwargs):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(run_module.Path, "mkdir", refuse)
    with pytest.raises(UserError, match="cannot be written .*--run_dir"):
        RunDirectory(tmp_path / "r", {})


def test_disk_full(tmp_path, monkeypatch):
    write = os.write

    def half(descriptor, content):
        if len(content) < 300:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(descriptor, content[:300])

    with RunDirectory(tmp_path / "r", {}) as run:
        run.log(number=1)
        with monkeypatch.context() as patched:
            patched.setattr(run_module.os, "write", half)
            with pytest.raises(UserError, match="disk is full.*Free some space"):
                run.log(number=2, filler="x" * 500)
        run.log(number=3)
        assert [event["number"] for event in run.events()] == [1, 3]
