"""Ways to a machine: what ssh and adb say in plain words, and what a machine is asked before a benchmark."""

import os
import shutil
import socket
import struct
import subprocess

import pytest

from tfbnas.device import DeviceError, Facts, benchmark, open_target, preflight
from tfbnas.device.targets import Adb
from tfbnas.errors import UserError


@pytest.mark.parametrize("text", ["pi", "ssh:", "ssh:-oProxyCommand=touch x", "ssh:a b", "serial:1", ""])
def test_what_is_no_target_is_refused(text):
    with pytest.raises(UserError, match="target"):
        open_target(text)


def test_a_relative_directory_is_refused():
    with pytest.raises(UserError, match="absolute"):
        open_target("host", directory="here")


@pytest.mark.parametrize(
    ("host", "message"),
    [
        ("stranger", "host key of stranger is not known.*fingerprint"),
        ("changed", "host key of changed has changed"),
        ("locked", "refused the login.*ssh-copy-id"),
    ],
)
def test_ssh_accepts_nothing_silently(ssh_config, host, message):
    known = (ssh_config.parent / "unknown").read_text()
    with pytest.raises(DeviceError, match=message):
        open_target(f"ssh:{host}", ssh_config=ssh_config).run("true")
    assert (ssh_config.parent / "unknown").read_text() == known == ""


def test_ssh_tells_that_nobody_listens(ssh_config, tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        config = tmp_path / "config"
        config.write_text(f"Host board\nHostName 127.0.0.1\nPort {probe.getsockname()[1]}\n")
        with pytest.raises(DeviceError, match="cannot be reached: .*refused"):
            open_target("ssh:board", ssh_config=config).run("true")


def test_scripts_pass_through_quoting_and_exit_codes(ssh_config):
    target = open_target("ssh:board", ssh_config=ssh_config)
    done = target.run("printf '%s|' \"it's\" '$HOME' \"a  b\"; echo oops >&2; exit 7")
    assert (done.code, done.output) == (7, "it's|$HOME|a  b|oops\n")


@pytest.fixture
def adb_client(monkeypatch):
    if shutil.which("adb") is None:
        pytest.skip("no adb on this machine: install Android's platform tools")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        # A server of our own: the user's may have devices, and must go on.
        monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", str(probe.getsockname()[1]))
    yield
    subprocess.run(["adb", "kill-server"], capture_output=True, timeout=20)


def test_adb_without_a_device(adb_client, model):
    with pytest.raises(DeviceError, match="No Android device is attached.*USB debugging"):
        open_target("adb")
    with pytest.raises(DeviceError, match="'123' is not attached. Attached: none"):
        open_target("adb:123")


STAND_IN_ADB = """#!/bin/sh
case "$1" in
  devices) printf 'List of devices attached\\n%b\\n' "$ADB_DEVICES";;
  -s) shift; [ "$1" = phone ] || exit 1; shift
      case "$1" in shell) shift; exec sh -c "$*";; push) cp "$2" "$3";; esac;;
esac
"""


@pytest.fixture
def stand_in_adb(monkeypatch, tmp_path):
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "adb").write_text(STAND_IN_ADB)
    (folder / "adb").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("ADB_DEVICES", "phone\\tdevice")


@pytest.mark.parametrize(
    ("devices", "text", "message"),
    [
        ("phone\\tunauthorized", "adb", "unauthorized; confirm"),
        ("phone\\toffline", "adb:phone", "offline; reconnect"),
        ("phone\\tdevice\\ntablet\\tdevice", "adb", "2 devices are attached"),
    ],
)
def test_adb_devices_that_cannot_be_used(stand_in_adb, monkeypatch, devices, text, message):
    monkeypatch.setenv("ADB_DEVICES", devices)
    with pytest.raises(DeviceError, match=message):
        open_target(text)


@pytest.mark.parametrize("text", ["adb", "adb:phone"])
def test_adb_runs_a_benchmark(stand_in_adb, text, model, program, scratch):
    target = open_target(text, directory=str(scratch))
    assert isinstance(target, Adb) and target.name == "adb:phone"
    result = benchmark(model, target, binary=program('cat "$LOG/logcat.txt"'))
    assert result.measurement.count == 75 and list(scratch.iterdir()) == []


def elf(machine, *, bits=2, text=b""):
    return b"\x7fELF" + bytes([bits, 1]) + bytes(10) + struct.pack("<HH", 2, machine) + text


@pytest.mark.parametrize(
    ("content", "facts", "message"),
    [
        (elf(62), Facts("aarch64"), "built for x86_64"),
        (elf(183), Facts("x86_64"), "built for aarch64"),
        (elf(40, bits=1), Facts("aarch64"), "built for arm"),
        (elf(183, text=b"GLIBC_2.17\0GLIBC_2.34\0GLIBC_2.4"), Facts("aarch64", glibc="2.31"), "needs glibc 2.34"),
        (elf(183, text=b"GLIBC_2.17\0GLIBC_2.34\0GLIBC_2.4"), Facts("aarch64", glibc="2.36"), None),
        (elf(183), Facts("arm64"), None),
        (b"#!/bin/sh", Facts("aarch64"), None),
    ],
)
def test_programs_that_cannot_run_are_refused_before_they_are_copied(tmp_path, content, facts, message):
    path = tmp_path / "program"
    path.write_bytes(content)
    target = open_target("host")
    program = preflight.read_program(path)
    if message is None:
        preflight.check_program(program, facts, target)
        return
    with pytest.raises(DeviceError, match=message):
        preflight.check_program(program, facts, target)


def test_what_is_no_program_is_refused(tmp_path):
    (tmp_path / "page.html").write_text("<html>Not found</html>")
    with pytest.raises(UserError, match="binary"):
        preflight.read_program(tmp_path / "page.html")


class Recorded:
    """A target whose answers are given."""

    name, scratch = "board", ""

    def __init__(self, answer):
        self.answer = answer

    def check(self, script, doing):
        return self.answer


def test_a_kernel_of_64_bits_with_programs_of_32_is_refused():
    answer = "machine=aarch64\nsystem=Linux\nbits=32\nabi=\nclass= 1\nlibc=glibc 2.31\ncores=4\n"
    answer += "model=Raspberry Pi 4 Model B Rev 1.4\nfree=/dev/root 30000000 10000000 20000000 34% /\n"
    answer += "governor=ondemand\ngovernor=ondemand\ntemperature=61835\ntemperature=-40000\n"
    facts = preflight.look(Recorded(answer), "/tmp")
    assert facts == Facts(
        "aarch64", 32, "Linux", "Raspberry Pi 4 Model B Rev 1.4", 4, "2.31", 20000000 * 1024, ("ondemand",), 61.835
    )
    assert not facts.is_arm
    with pytest.raises(DeviceError, match="32-bit"):
        preflight.check_machine(facts, open_target("host"))


def test_an_android_phone_says_little():
    facts = preflight.look(Recorded("machine=aarch64\nbits=\nabi=arm64-v8a\nmodel=Pixel\ntemperature=37\n"), "/tmp")
    assert facts.is_arm and (facts.glibc, facts.free, facts.temperature, facts.model) == (None, None, 37.0, "Pixel")


def test_a_machine_without_data_is_no_arm():
    assert not preflight.look(Recorded(""), "/tmp").is_arm
