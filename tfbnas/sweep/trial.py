"""Runs trials as processes."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tfbnas.files import write_json
from tfbnas.run import in_use
from tfbnas.sweep import results
from tfbnas.sweep.grid import Trial
from tfbnas.sweep.options import Sweep

_PATIENCE = 30.0  # seconds that a trial has to stop in good order
_LONGEST = 300


class TrialFailed(Exception):
    """A trial did not leave a result; says why in one line."""


class Interrupted(BaseException):
    """The sweep is stopping. No Exception, so that nobody takes it for a trial's failure."""


class Runner:
    """Runs trials of a sweep, several at once from several threads, until it is stopped.

    Args:
      sweep: The sweep.
      say: Is told what begins and ends. Default: nobody.
    """

    def __init__(self, sweep: Sweep, *, say: Callable[[str], None] = lambda text: None):
        self.sweep, self._say = sweep, say
        self._processes: set[subprocess.Popen] = set()
        self._lock = threading.Lock()
        self._stopping = threading.Event()

    @property
    def stopping(self) -> bool:
        return self._stopping.is_set()

    def run(self, trial: Trial) -> dict[str, float]:
        """Runs a trial to its end, or on from where it was interrupted.

        Returns:
          "accuracy" (0 to 1) and "cost" (in the unit of the budget, where it is known) of the network it found.

        Raises:
          TrialFailed: It failed; the reason is kept for `results`.
          Interrupted: The sweep was stopped meanwhile.
        """
        results.failure_file(self.sweep.run_dir, trial.name).unlink(missing_ok=True)
        self._wait_for(self.sweep.path(trial))
        log = self.sweep.run_dir / "trials" / f"{trial.name}.log"
        begin = log.stat().st_size if log.exists() else 0
        self._say(f"sweep: {trial.name} begins, its output goes to {log}")
        with log.open("a") as file:
            code = self._execute(self._command(trial), file)
        if self.stopping:
            raise Interrupted
        outcome = results.measured(self.sweep.path(trial))
        if code == 0 and outcome.accuracy is not None:
            cost = f" at {outcome.cost:.4g} {self.sweep.unit}" if outcome.cost is not None else ""
            self._say(f"sweep: {trial.name} ends: {100 * outcome.accuracy:.2f} %{cost}")
            return results.metrics(outcome)
        reason = reason_of(code, log, begin)
        self._say(f"sweep: {trial.name} failed: {reason}")
        write_json(results.failure_file(self.sweep.run_dir, trial.name), {"reason": reason, "exit_code": code})
        raise TrialFailed(reason)

    def stop(self) -> None:
        """Ends all processes: asks, waits, and then kills. Afterwards `run` raises Interrupted."""
        with self._lock:
            self._stopping.set()
            processes = list(self._processes)
        for process in processes:
            _send(process, signal.SIGINT)
        deadline = time.monotonic() + _PATIENCE
        for process in processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, deadline - time.monotonic()))
            _send(process, signal.SIGKILL)
            process.wait()

    def _command(self, trial: Trial) -> list[str]:
        config = self.sweep.run_dir / results.RECIPE_SETTINGS
        options = ["--config", str(config), "--run_dir", str(self.sweep.path(trial)), *trial.arguments()]
        return [sys.executable, "-m", "tfbnas.sweep.child", str(os.getpid()), self.sweep.recipe.module, *options]

    def _execute(self, command: list[str], log) -> int:
        print(f"$ {shlex.join([command[0], '-m', *command[4:]])}", file=log, flush=True)
        # The recipe is no part of the chief's and workers' conversation.
        environment = {name: text for name, text in os.environ.items() if not name.startswith("KERASTUNER_")}
        with self._lock:
            if self.stopping:
                raise Interrupted
            # A session of its own: Ctrl-C reaches the sweep alone, which then ends its trials in good order.
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**environment, "PYTHONUNBUFFERED": "1"},
                start_new_session=True,
            )
            self._processes.add(process)
        try:
            return process.wait()
        finally:
            self._processes.discard(process)

    def _wait_for(self, run_dir: Path) -> None:
        """Waits for the process of a sweep that was killed, which takes a moment to stop."""
        while in_use(run_dir):
            if self._stopping.wait(0.3):
                raise Interrupted


def _send(process: subprocess.Popen, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if process.poll() is None:
            os.killpg(process.pid, number)


def reason_of(code: int, log: Path, begin: int = 0) -> str:
    """Why a process failed, in one line.

    Args:
      code: Its exit code; negative for a signal.
      log: What it printed.
      begin: Position in `log` where its output begins.
    """
    with log.open("rb") as file:
        file.seek(begin)
        lines = list(_lines(file.read().decode(errors="replace")))
    if code < 0:
        name = signal.Signals(-code).name if -code in {int(s) for s in signal.Signals} else f"signal {-code}"
        return f"killed by {name}" + (", often because memory ran out" if name == "SIGKILL" else "")
    said = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    if code == 2 and said:
        return said[-1]
    if code == 0:
        return f"it ended without a result, see {log.name}"
    return lines[-1] if lines else f"exit code {code}, and no word of why"


def _lines(text: str) -> Iterator[str]:
    for line in text.replace("\r", "\n").splitlines():
        if line.strip() and not line.startswith("$ "):
            yield line.strip()[:_LONGEST]
