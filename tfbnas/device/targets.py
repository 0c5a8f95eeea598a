"""The machines: over ssh, over adb, and this one."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

from tfbnas.device.target import Completed, DeviceError, Target, tail
from tfbnas.errors import UserError

_ADB_SCRATCH = "/data/local/tmp"


class Host(Target):
    """This machine."""

    def __init__(self, *, scratch: str = ""):
        self.name = "host"
        self.scratch = scratch

    def arguments(self, script: str) -> list[str]:
        return ["sh", "-c", script]

    def explain(self, output: str) -> str:
        return f"The shell of this machine ended early: {tail(output) or 'it said nothing'}."


class Ssh(Target):
    """A machine reached through the system's OpenSSH, with its configuration, agent and known hosts.

    Args:
      destination: `host`, `user@host` or a name out of ~/.ssh/config.
      config: Configuration file instead of the user's. Default: None.
      scratch: Where to put files. Default: the target's temporary directory.

    Raises:
      UserError: The destination is none.
      DeviceError: There is no ssh program.
    """

    def __init__(self, destination: str, *, config: str | os.PathLike | None = None, scratch: str = ""):
        if not destination or destination.startswith("-") or re.search(r"\s", destination):
            raise UserError(f"Expected a target like ssh:user@host. Received: 'ssh:{destination}'.")
        if shutil.which("ssh") is None:
            raise DeviceError("There is no ssh program on this machine; install the OpenSSH client.")
        if config is not None and not Path(config).is_file():
            raise UserError(f"Expected a file of ssh settings. Received: {os.fspath(config)!r}, which does not exist.")
        self.name = f"ssh:{destination}"
        self.destination = destination
        self.config = config
        self.scratch = scratch

    def arguments(self, script: str) -> list[str]:
        # BatchMode: never ask, never accept a host key that the user has not accepted.
        options = ["-T", "-o", "BatchMode=yes", "-o", "ConnectTimeout=15", "-o", "ServerAliveInterval=15"]
        config = [] if self.config is None else ["-F", os.fspath(self.config)]
        return ["ssh", *config, *options, "--", self.destination, script]

    def explain(self, output: str) -> str:
        by_hand = f"ssh {self.destination}"
        if "IDENTIFICATION HAS CHANGED" in output:
            return (
                f"The host key of {self.destination} has changed since it was accepted; find out why, then remove the "
                "old one with ssh-keygen -R."
            )
        if "Host key verification failed" in output:
            return (
                f"The host key of {self.destination} is not known on this machine; run `{by_hand}` once, compare the "
                "fingerprint and accept it."
            )
        if "Permission denied" in output or "Too many authentication failures" in output:
            return (
                f"{self.destination} refused the login without a password; install your key with "
                f"`ssh-copy-id {self.destination}` or load it with ssh-add, until `{by_hand}` asks for nothing."
            )
        for hint in ("Could not resolve", "Connection refused", "No route to host", "timed out", "Bad configuration"):
            line = next((line for line in output.splitlines() if hint in line), None)
            if line:
                return (
                    f"{self.destination} cannot be reached: {line.strip().rstrip('.')}; check that `{by_hand}` works."
                )
        return f"The connection to {self.destination} broke: {tail(output) or 'nothing was said'}."


class Adb(Target):
    """An Android device reached through the platform tool `adb`.

    Args:
      serial: Serial number; may be left out where exactly one device is attached.
      scratch: Where to put files. Default: /data/local/tmp.

    Raises:
      DeviceError: There is no adb program, or not exactly one usable device.
    """

    def __init__(self, serial: str = "", *, scratch: str = ""):
        if shutil.which("adb") is None:
            raise DeviceError("There is no adb program on this machine; install Android's platform tools.")
        self.serial = serial or self._only_device()
        self.name = f"adb:{self.serial}"
        self.scratch = scratch or _ADB_SCRATCH
        if serial:
            self._check_state(dict(self._devices()))

    @staticmethod
    def _devices() -> list[tuple[str, str]]:
        try:
            listed = subprocess.run(["adb", "devices"], capture_output=True, text=True, timeout=30)
        except subprocess.TimeoutExpired:
            raise DeviceError("adb did not answer within 30 seconds; run `adb kill-server` and try again.") from None
        if listed.returncode:
            raise DeviceError(f"adb failed: {tail(listed.stderr or listed.stdout)}.")
        rows = [line.split("\t") for line in listed.stdout.splitlines() if "\t" in line]
        return [(row[0], row[1].strip()) for row in rows]

    def _only_device(self) -> str:
        devices = self._devices()
        if not devices:
            raise DeviceError(
                "No Android device is attached; connect one with USB debugging on, until `adb devices` lists it."
            )
        if len(devices) > 1:
            raise DeviceError(
                f"Expected a target like adb:{devices[0][0]}, because {len(devices)} devices are attached "
                f"({', '.join(serial for serial, _ in devices)}). Received: 'adb'."
            )
        self.serial = devices[0][0]
        self._check_state(dict(devices))
        return self.serial

    def _check_state(self, states: dict[str, str]) -> None:
        state = states.get(self.serial)
        if state == "device":
            return
        if state is None:
            listed = ", ".join(sorted(states)) or "none"
            raise DeviceError(f"The Android device {self.serial!r} is not attached. Attached: {listed}.")
        remedy = "confirm this computer on its screen" if state == "unauthorized" else "reconnect it"
        raise DeviceError(f"The Android device {self.serial!r} is {state}; {remedy}.")

    def arguments(self, script: str) -> list[str]:
        return ["adb", "-s", self.serial, "shell", script]

    def explain(self, output: str) -> str:
        return f"The connection to the Android device {self.serial!r} broke: {tail(output) or 'nothing was said'}."

    def put(self, local: str | os.PathLike, remote: str, *, mode: str = "644", timeout: float = 600.0) -> None:
        command = ["adb", "-s", self.serial, "push", os.fspath(local), remote]
        try:
            pushed = subprocess.run(
                command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=timeout
            )
        except subprocess.TimeoutExpired:
            raise DeviceError(f"Copying to {self.name} did not finish within {timeout:g} seconds.") from None
        path = shlex.quote(remote)
        done = Completed(pushed.returncode, pushed.stdout)
        self.check_copy(done if done.code else self.run(f"chmod {mode} {path} && wc -c < {path}"), local, remote)


def open_target(text: str, *, directory: str = "", ssh_config: str | os.PathLike | None = None) -> Target:
    """The machine that a user names.

    Args:
      text: "host", "ssh:user@host", "adb" or "adb:serial".
      directory: Directory on it under which temporary files go. Default: its own choice.
      ssh_config: Settings of ssh instead of the user's. Default: None.

    Raises:
      UserError: The text names no machine.
      DeviceError: The machine cannot be used.
    """
    if directory and not directory.startswith("/"):
        raise UserError(f"Expected `directory` to be an absolute path on the target. Received: {directory!r}.")
    kind, _, rest = text.partition(":")
    if text == "host":
        return Host(scratch=directory)
    if kind == "ssh":
        return Ssh(rest, config=ssh_config, scratch=directory)
    if kind == "adb":
        return Adb(rest, scratch=directory)
    raise UserError(f"Expected `target` to be host, ssh:user@host, adb or adb:serial. Received: {text!r}.")
