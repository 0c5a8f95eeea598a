"""Benchmarks on this machine and over ssh on loopback, with stand-ins that print recorded logs or fail."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tfbnas.device import DeviceError, Session, benchmark, open_target, preflight
from tfbnas.device.table import table
from tfbnas.errors import UserError

PLAIN = 'cat "$LOG/plain.txt"'


@pytest.fixture(params=["host", "ssh"])
def target(request, scratch):
    if request.param == "host":
        return open_target("host", directory=str(scratch))
    return open_target("ssh:board", directory=str(scratch), ssh_config=request.getfixturevalue("ssh_config"))


@pytest.fixture
def host(scratch):
    return open_target("host", directory=str(scratch))


def command(model, *arguments):
    return [sys.executable, "-m", "tfbnas.device", "benchmark", str(model), *map(str, arguments)]


def is_alive(process):
    try:
        state = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_a_benchmark_measures_and_leaves_nothing(target, model, program, scratch):
    seen = scratch.parent / "arguments"
    binary = program(f'echo "$@" >> {seen}; wc -c < "${{1#--graph=}}" >> {seen}; {PLAIN} >&2')
    result = benchmark(model, target, binary=binary, threads=2, repetitions=7)
    assert (result.measurement.mean, result.measurement.count, result.profile) == (31.4206, 50, None)
    arguments, size = seen.read_text().splitlines()
    assert arguments.endswith("model.tflite --num_threads=2 --num_runs=7") and int(size) == model.stat().st_size
    assert list(scratch.iterdir()) == []
    assert result.facts.machine == os.uname().machine and result.facts.bits == 64 and result.facts.free > 0
    json.dumps(result.to_dict())


def test_a_profile_is_a_run_of_its_own(host, model, program):
    body = 'log=plain; case "$*" in *--enable_op_profiling=true*) log=profile_without_start;; esac; cat "$LOG/$log.txt"'
    binary = program(body)
    result = benchmark(model, host, binary=binary, profile=True)
    assert result.measurement.mean == 31.4206 and result.profile.mean == 3.2094
    shown, content = table(result), result.to_dict()
    assert [row["type"] for row in content["operators"]] == ["LceQuantize", "LceBconv2d", "LceBconv2d", "ADD"]
    assert (
        "model/conv_2" in shown and "44.4%" in shown and content["minimum"] == 31.138 and content["memory"] == 18.7227
    )


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ('cat "$LOG/failed.txt"; exit 1', "unresolved|Failed to allocate"),
        ("kill -9 $$", "memory ran out"),
        ("kill -11 $$", "segmentation fault"),
        ("echo \"lce_benchmark_model: /lib/libc.so.6: version 'GLIBC_2.34' not found\"; exit 1", "GLIBC_2.34"),
        ("echo 'fopen: No space left on device' >&2; exit 1", "No space left"),
        ("exit 0", "printed nothing"),
        ('head -n 8 "$LOG/plain.txt"', "no timings"),
    ],
)
def test_a_failing_program_says_why_and_leaves_nothing(host, model, program, scratch, body, message):
    with pytest.raises(DeviceError, match=message):
        benchmark(model, host, binary=program(body))
    assert list(scratch.iterdir()) == []


def test_a_slow_program_is_ended(target, model, program, scratch):
    started = scratch.parent / "started"
    with pytest.raises(DeviceError, match="within 1 seconds"):
        benchmark(model, target, binary=program(f"echo $$ > {started}; exec sleep 60"), timeout=1)
    assert list(scratch.iterdir()) == []
    time.sleep(0.2)
    assert not started.exists() or not is_alive(started.read_text().strip())


def test_a_broken_connection_is_told_and_cleaned_up_over_a_new_one(ssh_config, model, program, scratch):
    target = open_target("ssh:board", directory=str(scratch), ssh_config=ssh_config)
    # The stand-in ends the sshd process that serves it, an ancestor of its own.
    body = 'p=$$; while [ "$p" -gt 1 ]; do case "$(cat /proc/$p/comm)" in sshd*) kill -9 $p; break;; esac; '
    body += "p=$(sed 's/.*) . \\([0-9]*\\) .*/\\1/' /proc/$p/stat); done; exec sleep 60"
    with pytest.raises(DeviceError, match="broke"):
        benchmark(model, target, binary=program(body))
    assert list(scratch.iterdir()) == []


@pytest.mark.parametrize(("way", "number"), [("host", signal.SIGTERM), ("ssh", signal.SIGINT)])
def test_an_interrupt_leaves_nothing(request, way, number, model, program, scratch):
    """Also where a shell has started it in the background, with SIGINT ignored."""
    started = scratch.parent / "started"
    binary = program(f"echo $$ > {started}; exec sleep 60")
    options = ["--directory", scratch, "--binary", binary, "--target", "host"]
    if way == "ssh":
        options[-1:] = ["ssh:board", "--ssh_config", request.getfixturevalue("ssh_config")]
    running = subprocess.Popen(
        command(model, *options),
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
    )
    try:
        deadline = time.monotonic() + 120
        while not started.exists() or not started.read_text().strip():
            assert running.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
        running.send_signal(number)
        _, errors = running.communicate(timeout=120)
    finally:
        running.kill()
    assert running.returncode == (130 if number == signal.SIGINT else 128 + number)
    assert "Traceback" not in errors and list(scratch.iterdir()) == []
    time.sleep(0.2)
    assert not is_alive(started.read_text().strip())


def test_a_full_disk_is_told(target, model):
    with pytest.raises(DeviceError, match="disk of .* is full"):
        target.put(model, "/dev/full")


def test_too_little_space_is_told_before_anything_is_copied(host, model, program, scratch, monkeypatch):
    monkeypatch.setattr(preflight, "_RESERVE", 1 << 60)
    with pytest.raises(DeviceError, match="disk of .* is full.*--directory"):
        benchmark(model, host, binary=program(PLAIN))
    assert list(scratch.iterdir()) == []


def test_a_wide_spread_and_a_foreign_processor_are_called_out(host, model, program):
    result = benchmark(model, host, binary=program('cat "$LOG/spread.txt"'))
    assert any("spread by 30%" in text for text in result.warnings) and "warning: The runs spread" in table(result)
    assert any("ARM" in text for text in result.warnings) == (os.uname().machine not in ("aarch64", "arm64"))


def test_a_program_on_the_target_is_used_where_it_is(host, model, program, scratch):
    binary = program(PLAIN)
    with pytest.raises(DeviceError, match="There is no lce_benchmark_model on"):
        benchmark(model, host)
    missing = str(binary.parent / "elsewhere" / "lce_benchmark_model")
    with pytest.raises(DeviceError, match="neither on this machine nor on"):
        benchmark(model, host, binary=missing)
    assert list(scratch.iterdir()) == [] and binary.exists()


def test_one_session_measures_many_models(host, model, program, scratch):
    with Session(host, program(PLAIN)) as session:
        assert [session.measure(model).measurement.mean for _ in range(2)] == [31.4206] * 2
    assert list(scratch.iterdir()) == []


def test_the_command_line_prints_writes_and_fails_without_a_traceback(model, program, scratch, tmp_path):
    out = tmp_path / "out.json"
    done = subprocess.run(
        command(model, "--target", "host", "--binary", program(PLAIN), "--json", out, "--directory", scratch),
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0 and "31.421 ms" in done.stdout and json.loads(out.read_text())["mean"] == 31.4206
    done = subprocess.run(command(tmp_path / "none.tflite", "--target", "host"), capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.startswith("error: Expected a .tflite file") and not done.stdout


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threads": 0}, "threads"),
        ({"repetitions": -1}, "repetitions"),
        ({"timeout": 0}, "timeout"),
        ({"cpu_mask": "f0; rm"}, "cpu_mask"),
    ],
)
def test_wrong_arguments_are_refused_before_the_target_is_asked(model, options, message):
    with pytest.raises(UserError, match=message):
        benchmark(model, None, **options)


def test_what_is_no_model_is_refused(tmp_path):
    wrong = tmp_path / "model.tflite"
    wrong.write_bytes(b"hello")
    with pytest.raises(UserError, match="TFLite model"):
        benchmark(wrong, None)


def test_benchmarks_do_not_import_tensorflow():
    code = "import sys, tfbnas.device.__main__; print([m for m in ('tensorflow', 'numpy', 'larq') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


def test_a_program_killed_over_ssh_is_told_from_a_broken_connection(ssh_config, model, program, scratch):
    target = open_target("ssh:board", directory=str(scratch), ssh_config=ssh_config)
    with pytest.raises(DeviceError, match="memory ran out"):
        benchmark(model, target, binary=program("kill -9 $$"))
    assert list(scratch.iterdir()) == []


def test_a_program_that_is_not_executable_is_told(host, program):
    with pytest.raises(DeviceError, match="not executable"):
        preflight.find_program(host, str(program(PLAIN)))
