"""The interface to a machine that runs benchmarks, and what all such machines share."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tfbnas.errors import UserError

_MARK = "tfbnas-exit:"


class DeviceError(UserError):
    """The machine, or the way to it, did not do what a benchmark needs."""


@dataclass(frozen=True)
class Completed:
    """What a script did.

    Attributes:
      code: Exit code; above 128, the signal that ended it plus 128.
      output: Standard output and standard error as they came, without carriage returns.
    """

    code: int
    output: str


class Target(ABC):
    """A machine with a POSIX shell.

    Attributes:
      name: As the user wrote it.
      scratch: Directory under which temporary directories are made; empty for the machine's own choice.
    """

    name: str
    scratch: str = ""

    @abstractmethod
    def arguments(self, script: str) -> list[str]:
        """The command on this machine that runs `script` in the target's shell."""

    @abstractmethod
    def explain(self, output: str) -> str:
        """One sentence on why a script did not come to its end, from what the way to the target printed."""

    def run(self, script: str, *, timeout: float = 30.0, source: IO[bytes] | None = None) -> Completed:
        """Runs a POSIX shell script and waits for it.

        Args:
          script: The script.
          timeout: Seconds. Default: 30.
          source: What the script reads as standard input. Default: nothing.

        Raises:
          DeviceError: It takes longer, or the connection cannot be made or breaks. The script may then still run.
        """
        marked = f"( {script}\n) 2>&1\nprintf '\\n%s%s\\n' {_MARK} $?"
        try:
            output = _call(self.arguments(f"sh -c {shlex.quote(marked)}"), timeout, source)
        except subprocess.TimeoutExpired:
            raise DeviceError(f"{self.name} did not finish within {timeout:g} seconds; raise the timeout.") from None
        end = re.search(rf"\n?{_MARK}(\d+)\n*$", output)
        if end is None:
            raise DeviceError(self.explain(output))
        return Completed(int(end.group(1)), output[: end.start()])

    def check(self, script: str, doing: str, *, timeout: float = 30.0) -> str:
        """Like `run`; returns the output.

        Raises:
          DeviceError: The exit code is not 0; the sentence names what was being done.
        """
        done = self.run(script, timeout=timeout)
        if done.code:
            raise DeviceError(f"{doing} failed on {self.name}: {tail(done.output) or f'exit code {done.code}'}.")
        return done.output

    def make_directory(self) -> str:
        """Makes an empty directory for one benchmark and returns its path."""
        parent = shlex.quote(self.scratch) if self.scratch else '"${TMPDIR:-/tmp}"'
        made = self.check(f"mktemp -d {parent}/tfbnas.XXXXXXXX", "Making a temporary directory").strip().split("\n")[-1]
        if not made.startswith("/"):
            raise DeviceError(f"Making a temporary directory failed on {self.name}: {made!r} is no absolute path.")
        return made

    def put(self, local: str | os.PathLike, remote: str, *, mode: str = "644", timeout: float = 600.0) -> None:
        """Copies a file to `remote`, through the shell: that needs no SFTP or scp on the other side.

        Args:
          local: File on this machine.
          remote: Absolute path on the target.
          mode: Permissions, octal. Default: "644".
          timeout: Seconds. Default: 600.

        Raises:
          DeviceError: The disk of the target is full, or the copy is not complete.
        """
        path = shlex.quote(remote)
        with open(local, "rb") as source:
            script = f"cat > {path} && chmod {mode} {path} && wc -c < {path}"
            self.check_copy(self.run(script, timeout=timeout, source=source), local, remote)

    def check_copy(self, done: Completed, local: str | os.PathLike, remote: str) -> None:
        """Raises a DeviceError unless what was done ended with printing the size of `local`."""
        size = Path(local).stat().st_size
        if "No space left" in done.output:
            raise DeviceError(
                f"The disk of {self.name} is full: {Path(local).name} ({size} bytes) does not fit at {remote}; "
                "free some space, or choose another place with --directory."
            )
        if done.code:
            raise DeviceError(f"Copying {Path(local).name} to {self.name} failed: {tail(done.output)}.")
        copied = tail(done.output, 1)
        if copied != str(size):
            raise DeviceError(f"Copying {Path(local).name} to {self.name} failed: {copied} of {size} bytes arrived.")

    def remove(self, path: str) -> None:
        """Removes a file or directory; nothing happens where there is none."""
        self.check(f"rm -rf {shlex.quote(path)}", f"Removing {path}")


def tail(output: str, lines: int = 2) -> str:
    """The last lines that say something, as one."""
    said = [line.strip().rstrip(".") for line in output.splitlines() if line.strip()]
    return "; ".join(said[-lines:])


def _call(arguments: Sequence[str], timeout: float, source: IO[bytes] | None) -> str:
    # A session of its own: an interrupt from the keyboard comes to us alone, and we end the command.
    process = subprocess.Popen(
        arguments,
        stdin=source or subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=timeout)
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert process.stdout is not None
        process.stdout.close()
        raise
    return output.decode(errors="replace").replace("\r", "")
