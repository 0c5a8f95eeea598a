"""What has to be known of a machine before a benchmark, and what rules one out."""

from __future__ import annotations

import re
import shlex
import struct
from dataclasses import dataclass
from pathlib import Path

from tfbnas.device.target import DeviceError, Target
from tfbnas.errors import UserError

PROGRAM = "lce_benchmark_model"
_RELEASES = "https://github.com/larq/compute-engine/releases"
_ARM = ("aarch64", "arm64")
_ELF_MACHINES = {3: "x86", 40: "arm", 62: "x86_64", 183: "aarch64"}
_RESERVE = 1 << 20

# One script, because every command is a connection of its own. Nothing in it may fail.
_SCRIPT = r"""
echo "machine=$(uname -m 2>/dev/null)"
echo "system=$(uname -s 2>/dev/null)"
echo "bits=$(getconf LONG_BIT 2>/dev/null)"
echo "abi=$(getprop ro.product.cpu.abi 2>/dev/null)"
echo "class=$(od -An -tu1 -j4 -N1 /proc/self/exe 2>/dev/null)"
echo "libc=$(getconf GNU_LIBC_VERSION 2>/dev/null)"
echo "cores=$(grep -c '^processor' /proc/cpuinfo 2>/dev/null)"
echo "model=$(tr -d '\000' < /proc/device-tree/model 2>/dev/null || getprop ro.product.model 2>/dev/null)"
echo "free=$( (df -Pk DIRECTORY || df -k DIRECTORY) 2>/dev/null | tail -n 1)"
for f in /sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_governor; do
  [ -r "$f" ] && echo "governor=$(cat "$f" 2>/dev/null)"
done
"""
_TEMPERATURE = r"""
for f in /sys/class/thermal/thermal_zone*/temp; do [ -r "$f" ] && echo "temperature=$(cat "$f" 2>/dev/null)"; done
true
"""


@dataclass(frozen=True)
class Facts:
    """What a machine says of itself; None is what it does not say.

    Attributes:
      machine: Architecture of the kernel, for instance "aarch64".
      bits: 32 or 64, of the programs that it runs.
      system: Name of the kernel.
      model: Name of the board or phone.
      cores: Processors.
      glibc: Version of the C library, for instance "2.31".
      free: Free bytes where files will go.
      governors: Different CPU frequency governors.
      temperature: Hottest sensor in degrees Celsius.
    """

    machine: str
    bits: int | None = None
    system: str | None = None
    model: str | None = None
    cores: int | None = None
    glibc: str | None = None
    free: int | None = None
    governors: tuple[str, ...] = ()
    temperature: float | None = None

    @property
    def is_arm(self) -> bool:
        """Whether it runs 64-bit ARM programs: the only ones for which LCE has optimised kernels."""
        return self.machine in _ARM and self.bits != 32


def look(target: Target, directory: str) -> Facts:
    """Asks a machine about itself."""
    script = _SCRIPT.replace("DIRECTORY", shlex.quote(directory)) + _TEMPERATURE
    values: dict[str, list[str]] = {}
    for line in target.check(script, "Reading the machine's data").splitlines():
        key, separator, value = line.partition("=")
        if separator and value.strip():
            values.setdefault(key, []).append(value.strip())
    first = {key: found[0] for key, found in values.items()}
    version = re.search(r"(\d+\.\d+)", first.get("libc", ""))
    sizes = re.findall(r"\s(\d+)\s+(\d+)\s+(\d+)\s+\d+%", first.get("free", ""))
    return Facts(
        machine=first.get("machine", "unknown"),
        bits=_bits(first),
        system=first.get("system"),
        model=first.get("model"),
        cores=int(first["cores"]) if first.get("cores", "").isdigit() else None,
        glibc=version[1] if version else None,
        free=int(sizes[0][2]) * 1024 if sizes else None,
        governors=tuple(sorted(set(values.get("governor", [])))),
        temperature=_hottest(values.get("temperature", [])),
    )


def temperature(target: Target) -> float | None:
    """The hottest sensor now, in degrees Celsius."""
    lines = target.check(_TEMPERATURE, "Reading the temperature").splitlines()
    return _hottest([line.partition("=")[2] for line in lines if line.startswith("temperature=")])


def _bits(first: dict[str, str]) -> int | None:
    if first.get("abi"):
        return 64 if "64" in first["abi"] else 32
    if first.get("bits") in ("32", "64"):
        return int(first["bits"])
    return {"1": 32, "2": 64}.get(first.get("class", ""))


def _hottest(values: list[str]) -> float | None:
    numbers = [int(value) for value in values if re.fullmatch(r"-?\d+", value.strip())]
    degrees = [value / 1000 if abs(value) >= 1000 else float(value) for value in numbers]
    plausible = [value for value in degrees if 0 < value < 150]  # unused sensors report nonsense
    return max(plausible, default=None)


@dataclass(frozen=True)
class Program:
    """A benchmark program on this machine.

    Attributes:
      path: The file.
      machine: Architecture that it is built for; None for a script.
      glibc: Newest version of the C library that it asks for; None where it asks for none.
    """

    path: Path
    machine: str | None
    glibc: str | None


def read_program(path: Path) -> Program:
    """Reads what a program needs out of its ELF header and its symbol versions.

    Raises:
      UserError: It is neither an ELF program nor a script.
    """
    content = path.read_bytes()
    if content[:2] == b"#!":
        return Program(path, None, None)
    if content[:4] != b"\x7fELF" or len(content) < 20:
        raise UserError(
            f"Expected `binary` to be the program {PROGRAM} for the target. Received: {path}, which is no Linux or "
            f"Android program; programs for each architecture are at {_RELEASES}."
        )
    (code,) = struct.unpack("<H" if content[5] == 1 else ">H", content[18:20])
    versions = {tuple(map(int, found.split(b"."))) for found in re.findall(rb"GLIBC_(\d+\.\d+)", content)}
    newest = ".".join(map(str, max(versions))) if versions else None
    return Program(path, _ELF_MACHINES.get(code, f"machine {code}"), newest)


def check_machine(facts: Facts, target: Target) -> None:
    """Raises a DeviceError where LCE has no kernels for the machine's programs."""
    if facts.bits == 32:
        raise DeviceError(
            f"{target.name} runs 32-bit programs ({facts.machine}), for which Larq Compute Engine has no optimised "
            "kernels; install a 64-bit system."
        )


def check_program(program: Program, facts: Facts, target: Target) -> None:
    """Raises a DeviceError where a program cannot run on the machine."""
    machine = {"arm64": "aarch64", "amd64": "x86_64"}.get(facts.machine, facts.machine)
    if program.machine is not None and program.machine != machine:
        raise DeviceError(
            f"{program.path.name} is built for {program.machine}, but {target.name} is {facts.machine}; take the one "
            f"for {facts.machine} from {_RELEASES}."
        )
    if program.glibc and facts.glibc and _version(program.glibc) > _version(facts.glibc):
        raise DeviceError(
            f"{program.path.name} needs glibc {program.glibc}, but {target.name} has {facts.glibc}; update its system, "
            "or build the program on it."
        )


def check_space(facts: Facts, needed: int, directory: str, target: Target) -> None:
    """Raises a DeviceError where files would not fit."""
    if facts.free is not None and facts.free < needed + _RESERVE:
        raise DeviceError(
            f"The disk of {target.name} is full: {directory} has {facts.free} bytes free, and {needed + _RESERVE} are "
            "needed; free some space, or choose another place with --directory."
        )


def find_program(target: Target, path: str) -> str:
    """Absolute path of an executable on the target.

    Args:
      target: The machine.
      path: Path on it, or a name to be found along its PATH.

    Raises:
      DeviceError: There is none, or it is not executable.
    """
    quoted = shlex.quote(path)
    if "/" not in path:
        found = target.run(f"command -v {quoted}").output.strip().split("\n")[-1]
        if found.startswith("/"):
            return found
        raise DeviceError(
            f"There is no {path} on {target.name}; take the program for its architecture and for your version of Larq "
            f"Compute Engine from {_RELEASES} and pass it as --binary."
        )
    seen = target.run(f"[ -f {quoted} ] || exit 1; [ -x {quoted} ] || exit 2").code
    if seen == 1:
        raise DeviceError(f"There is no {path}, neither on this machine nor on {target.name}; check --binary.")
    if seen:
        raise DeviceError(f"{path} on {target.name} is not executable; run chmod +x on it, or check for noexec mounts.")
    return path


def _version(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split(".")))
