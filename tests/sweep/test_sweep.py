"""Whole sweeps over a stand-in recipe: results, failures, interruptions, several machines."""

from __future__ import annotations

import json
import re
import signal
import socket
import time
from pathlib import Path

import pytest

from tfbnas.sweep.__main__ import main


def content(run_dir: Path) -> dict:
    return json.loads((run_dir / "sweep.json").read_text())


def wait_until(condition, process=None, seconds=240.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        assert process is None or process.poll() is None, process.communicate()[0]
        time.sleep(0.05)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Directory of the sweep that the first test makes and the others look at."""
    return tmp_path_factory.mktemp("sweep") / "run"


GRID = ["--budgets", "10", "20", "30", "40", "--penalty-weights", "1", "3"]
ARGUMENTS = [*GRID, "--workers", "2", "--refuse", "[10.0]", "--crash", "[20.0]"]


def test_a_sweep_goes_on_past_failures_and_says_how_many(standins, finished, capsys, events):
    assert main([standins, *ARGUMENTS, "--run_dir", str(finished)]) == 1
    shown = capsys.readouterr()
    assert "4 of 8 trials failed" in shown.out and shown.out.strip().endswith(str(finished))
    assert "sweep: 4 of 8 trials done, 4 failed" in shown.err
    assert "budget-10_weight-1_seed-0 failed: Expected `budget.limit` to be more. Received: 10." in shown.err
    found = content(finished)
    rows = {row["name"]: row for row in found["trials"]}
    assert len(rows) == 8
    assert rows["budget-20_weight-3_seed-0"]["reason"] == "RuntimeError: something broke"
    best = rows["budget-40_weight-1_seed-0"]
    assert (best["cost"], best["accuracy"], best["seconds"]) == (36.0, pytest.approx(0.85), 5.0)
    assert (best["memory"], best["deployed"], best["status"]) == (40000.0, 44000.0, "finished")
    # The larger weight costs the same and is less accurate.
    assert found["front"] == ["budget-30_weight-1", "budget-40_weight-1"] and found["front_by"] == "accuracy"
    *_, last = [one for one in found["points"] if one["networks"]]
    plain = last["networks"][1]  # trained by another trial
    assert (last["name"], plain["label"], plain["run_dirs"]) == (
        "budget-30_weight-3",
        "ResNet-8",
        ["trials/budget-40_weight-1_seed-0"],
    )
    assert (plain["cost"]["mean"], plain["accuracy"]["mean"], plain["accuracy"]["deviation"]) == (8.0, 0.6, None)
    assert [trial for trial, stage in events(finished) if stage == "train-plain"] == ["budget-40_weight-1_seed-0"]
    models = {file.name for file in (finished / "front").iterdir()}
    copies = {f"budget-{budget}_weight-1_seed-0.{kind}" for budget in (30, 40) for kind in ("tflite", "keras")}
    assert models == {*copies, "labels.txt"}
    assert (finished / "front" / "budget-30_weight-1_seed-0.tflite").read_text() == "model.tflite of 30"


def test_kerastuner_keeps_the_trials(finished):
    oracle = json.loads((finished / "oracle" / "oracle.json").read_text())
    assert oracle["ongoing_trials"] == {} and len(oracle["start_order"]) == 8
    files = (finished / "oracle").glob("trial_*/trial.json")
    trials = {trial["trial_id"]: trial for trial in (json.loads(file.read_text()) for file in files)}
    assert sorted(trial["status"] for trial in trials.values()) == ["COMPLETED"] * 4 + ["FAILED"] * 4
    best, broken = (trials[name] for name in ("budget-40_weight-1_seed-0", "budget-20_weight-1_seed-0"))
    assert best["hyperparameters"]["values"] == {"budget": 40.0, "penalty_weight": 1.0, "seed": 0}
    assert best["score"] == pytest.approx(0.85) and "something broke" in broken["message"]


def test_the_page_shows_all_of_it_and_needs_nothing_else(finished):
    page = (finished / "sweep.html").read_text()
    assert not re.search(r"<script|<img|<link rel=.stylesheet|url\(http|https?://(?!www\.w3\.org)", page)
    assert page.count("<svg") == 4 and "prefers-color-scheme: dark" in page
    assert 'href="trials/budget-40_weight-1_seed-0/report.html"' in page and "ResNet-8" in page
    assert "RuntimeError: something broke" in page and 'href="trials/budget-20_weight-1_seed-0.log"' in page
    assert "front/budget-30_weight-1_seed-0.tflite" in page and (finished / "plots" / "front.svg").exists()
    assert "76.00" in page and "85.00" in page  # accuracies of the front's ends


def test_started_again_it_repeats_only_what_failed(standins, finished, capsys, events):
    before = events(finished)
    assert main([standins, *ARGUMENTS, "--run_dir", str(finished)]) == 1
    again = [entry for entry in events(finished) if events(finished).count(entry) > before.count(entry)]
    assert {trial for trial, _ in again} == set()  # what had failed goes on behind its finished stages
    assert content(finished)["front"] == ["budget-30_weight-1", "budget-40_weight-1"]
    log = (finished / "trials" / "budget-20_weight-1_seed-0.log").read_text()
    assert log.count("$ ") == 2 and (finished / "trials" / "budget-40_weight-1_seed-0.log").read_text().count("$ ") == 1


def test_a_directory_of_another_sweep_or_run_is_refused(standins, finished, capsys, tmp_path):
    other = ["30" if text == "40" else text for text in ARGUMENTS if text != "30"]
    assert main([standins, *other, "--run_dir", str(finished)]) == 2
    assert "sweep.budgets was" in capsys.readouterr().err
    assert main([standins, *ARGUMENTS, "--seconds", "1", "--run_dir", str(finished)]) == 2
    assert "recipe.seconds was 0.0, now 1.0" in capsys.readouterr().err
    trial = finished / "trials" / "budget-40_weight-1_seed-0"
    assert main([standins, *ARGUMENTS, "--run_dir", str(trial)]) == 2
    assert "no sweep" in capsys.readouterr().err
    (tmp_path / "thesis.tex").write_text("")
    assert main([standins, *ARGUMENTS, "--run_dir", str(tmp_path)]) == 2
    assert "thesis.tex" in capsys.readouterr().err


def test_the_front_is_chosen_on_held_out_images_where_there_are_some(standins, tmp_path, capsys):
    arguments = ["--budgets", "20", "40", "--validated", "true", "--kill", "[20.0]"]
    assert main([standins, *arguments, "--run_dir", str(tmp_path / "a")]) == 1
    assert content(tmp_path / "a")["trials"][1]["reason"].startswith("killed by SIGKILL")
    capsys.readouterr()
    arguments = ["--budgets", "20", "40", "--validated", "true"]
    assert main([standins, *arguments, "--run_dir", str(tmp_path / "b")]) == 0
    found = content(tmp_path / "b")
    # On the test images the larger network is the better one, on the held-out ones the smaller.
    assert found["front_by"] == "validation_accuracy" and found["front"] == ["budget-20_weight-2"]
    page = (tmp_path / "b" / "sweep.html").read_text()
    assert "Validation accuracy" in page and "held-out" in page
    head, *rows = capsys.readouterr().out.splitlines()
    heads = re.split(r"  +", head.strip())[2:5]
    assert heads == ["steps", "test accuracy, %", "held-out images, %"]
    (row,) = [row for row in rows if row.endswith("on it")]
    found = {one["name"]: one for one in found["trials"]}["budget-20_weight-2_seed-0"]
    shown = [f"{100 * found[name]:.2f}" for name in ("accuracy", "validation_accuracy")]
    assert re.split(r"  +", row)[3:5] == shown and found["accuracy"] + found["validation_accuracy"] == 1


def running(run_dir: Path) -> list[int]:
    """Processes of trials that have begun a stage and not ended."""
    found = []
    for file in (run_dir / "trials").glob("*/log.jsonl"):
        events = [json.loads(line) for line in file.read_text().splitlines()]
        found += [event["process"] for event in events[-1:] if (Path("/proc") / str(event["process"])).exists()]
    return found


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks for processes in /proc")
def test_interrupted_and_killed_it_goes_on_where_it_was(start, standins, tmp_path, events):
    run_dir = tmp_path / "run"
    arguments = [
        standins,
        *["--budgets", "10", "20", "30", "40", "--workers", "2", "--seconds", "1", "--run_dir"],
        str(run_dir),
    ]
    first = start(*arguments)
    wait_until(lambda: len(running(run_dir)) == 2, first)
    processes = running(run_dir)
    first.send_signal(signal.SIGINT)
    output = first.communicate(timeout=60)[0]
    assert first.returncode == 130 and "To go on: python -m tfbnas.sweep standins.search" in output
    assert not any((Path("/proc") / str(process)).exists() for process in processes)

    second = start(*arguments)
    wait_until(lambda: (run_dir / "sweep.json").exists() and len(content(run_dir)["front"]) >= 1, second)
    wait_until(lambda: running(run_dir), second)
    finished = [row["name"] for row in content(run_dir)["trials"] if row["status"] == "finished"]
    before = events(run_dir)
    second.kill()
    second.wait()
    wait_until(lambda: not running(run_dir), seconds=30)  # nobody waits for them any more

    third = start(*arguments)
    output = third.communicate(timeout=240)[0]
    assert third.returncode == 0, output
    assert [row["status"] for row in content(run_dir)["trials"]] == ["finished"] * 4
    after = events(run_dir)
    assert finished and all(before.count(entry) == after.count(entry) for entry in before if entry[0] in finished)
    done = {(trial, stage) for trial, stage in after}
    assert len(done) == 2 * 4 + 1  # search and training of each, and one network to compare with


def free_address() -> str:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"127.0.0.1:{server.getsockname()[1]}"


def test_a_chief_and_two_workers(start, standins, tmp_path, events):
    address, run_dir = free_address(), tmp_path / "run"
    options = ["--budgets", "0.1", "0.2", "0.3", "0.4", "--seconds", "0.5", "--crash", "[0.2]"]
    arguments = [standins, *options, "--run_dir", str(run_dir)]
    workers = [start(*arguments, "--worker", address, KERASTUNER_TUNER_ID=name) for name in ("one", "two")]
    host, port = address.split(":")
    chief = start(*arguments, KERASTUNER_TUNER_ID="chief", KERASTUNER_ORACLE_IP=host, KERASTUNER_ORACLE_PORT=port)
    outputs = [process.communicate(timeout=300)[0] for process in (chief, *workers)]
    assert [process.returncode for process in (chief, *workers)] == [1, 0, 0], outputs
    assert "3 of 4 trials done, 1 failed" in outputs[0]
    rows = {row["name"]: row for row in content(run_dir)["trials"]}
    # 0.1 travels to a worker as a number of 32 bits.
    assert set(rows) == {f"budget-0.{i}_weight-2_seed-0" for i in (1, 2, 3, 4)} == set(dict(events(run_dir)))
    assert rows["budget-0.2_weight-2_seed-0"]["reason"] == "RuntimeError: something broke"
    assert all(" begins, its output goes to" in output for output in outputs[1:])
    assert (run_dir / "front" / "budget-0.4_weight-2_seed-0.tflite").exists()
    trial = json.loads((run_dir / "oracle" / "trial_budget-0.4_weight-2_seed-0" / "trial.json").read_text())
    assert trial["hyperparameters"]["values"]["budget"] == 0.4


def test_a_worker_says_when_its_chiefs_directory_holds_another_sweep(standins, finished, capsys):
    arguments = [standins, "--budgets", "7", "--run_dir", str(finished), "--worker", "127.0.0.1:9"]
    assert main(arguments) == 2
    assert "holds another sweep" in capsys.readouterr().err


def test_seeds_and_varied_settings_and_a_further_seed(standins, tmp_path, capsys, events):
    run_dir = tmp_path / "run"
    arguments = [standins, "--vary", "bonus", "null", "2.5", "--workers", "2", "--run_dir", str(run_dir)]
    assert main([*arguments, "--seeds", "0", "4"]) == 0
    before = events(run_dir)
    assert sorted(trial for trial, stage in before if stage == "train-plain") == [
        f"bonus-{bonus}_seed-{seed}" for bonus in (2.5, "null") for seed in (0, 4)
    ]  # whatever is found: another bonus may train it otherwise
    capsys.readouterr()
    assert main([*arguments, "--seeds", "0", "4", "8"]) == 0
    assert {trial for trial, _ in set(events(run_dir)) - set(before)} == {"bonus-null_seed-8", "bonus-2.5_seed-8"}
    assert events(run_dir)[: len(before)].count(before[0]) == 1
    found = content(run_dir)
    assert found["seeds"] == [0, 4, 8] and found["budgets"] == [20.0]
    own, plain = found["points"][1]["networks"]
    assert own["accuracy"]["values"] == pytest.approx([0.685, 0.689, 0.693])  # 50 + 18 - 2 + 2.5, and the seed
    assert own["difference"]["value"] == pytest.approx(0.025) and plain["difference"]["value"] == pytest.approx(0.089)
    lines = capsys.readouterr().out.splitlines()
    assert re.split(r"  +", lines[3])[:5] == ["bonus 2.5", "BSN", "3", "18", "68.90 ± 0.40"]
    assert re.split(r"  +", lines[8]) == ["bonus 2.5", "bonus null", "+2.5", "+2.5 to +2.5", "better", "3"]
    assert len(list((run_dir / "front").glob("*.tflite"))) == 3
    entropy = found["points"][1]["curves"]["entropy"]  # of the seeds 0, 4, 8, without the warm-up
    assert (entropy["epochs"], entropy["mean"], entropy["deviation"]) == ([2, 3], [6, 7], [4, 4])
    page = (run_dir / "sweep.html").read_text()
    assert "Entropy (bits)" in page and (run_dir / "plots" / "search.svg").exists()
    assert "68.90 ± 0.40" in page and "Student" in page and (run_dir / "plots" / "points.svg").exists()
    assert main([standins, "--vary", "bonus", "null", "3", "--run_dir", str(run_dir)]) == 2
    assert "holds another sweep" in capsys.readouterr().err
