"""KerasTuner's tuner of a sweep: runs the trials that the oracle hands out, or serves the oracle to workers."""

from __future__ import annotations

import functools
import os
import threading
import time
from collections.abc import Callable

from keras_tuner.engine.base_tuner import BaseTuner
from keras_tuner.engine.trial import TrialStatus

from tfbnas.errors import UserError
from tfbnas.sweep import results
from tfbnas.sweep.options import Sweep
from tfbnas.sweep.oracle import GridOracle
from tfbnas.sweep.trial import Interrupted, Runner, TrialFailed

PROJECT = "oracle"
_FAREWELL = 15.0  # seconds for workers to ask once more and hear that nothing is left


class SweepTuner(BaseTuner):
    """Runs a sweep's trials; alone, as the chief of several machines, or as a worker of one.

    Args:
      sweep: The sweep.
      runner: Runs a trial.
    """

    def __init__(self, sweep: Sweep, runner: Runner):
        self.sweep, self.runner = sweep, runner
        self.errors: list[BaseException] = []
        self._threads: list[threading.Thread] = []
        if sweep.role != "alone":
            host, port = sweep.address
            os.environ.update(KERASTUNER_ORACLE_IP=host, KERASTUNER_ORACLE_PORT=port)
            os.environ["KERASTUNER_TUNER_ID"] = sweep.tuner_id
        own = GridOracle(sweep.trials)
        super().__init__(own, directory=str(sweep.run_dir), project_name=PROJECT)
        if sweep.role != "worker":
            own.finish(results.finished(sweep))
            self.save()

    def start(self) -> None:
        """Begins to run trials, or to serve the oracle, in threads; `alive` and `errors` tell how it goes."""
        targets: list[Callable[[], None]] = [self.search]
        if self.sweep.role != "chief":
            names = [f"{self.sweep.tuner_id}-{i}" for i in range(self.sweep.workers)]
            targets = [functools.partial(self._work, name) for name in names]
        for target in targets:
            # Daemons: a worker that waits for its chief does not keep the process from ending.
            thread = threading.Thread(target=self._guarded, args=(target,), daemon=True)
            thread.start()
            self._threads.append(thread)

    def _guarded(self, target: Callable[[], None]) -> None:
        try:
            target()
        except Interrupted:
            pass
        except BaseException as error:  # the main thread raises it
            self.errors.append(error)

    @property
    def alive(self) -> bool:
        """Whether there is something to wait for."""
        if self.sweep.role == "chief":
            return not self.ended()
        return any(thread.is_alive() for thread in self._threads)

    def ended(self) -> bool:
        """Whether every trial is finished or has failed; only the process that holds the oracle knows."""
        return all(status in ("finished", "failed") for status in self.oracle.statuses().values())

    def say_farewell(self) -> None:
        """Waits until the workers know that nothing is left; not for ever, for one may have died."""
        deadline = time.monotonic() + _FAREWELL
        while self.oracle.tuner_ids and time.monotonic() < deadline:
            time.sleep(0.2)

    def _work(self, tuner_id: str) -> None:
        while not self.runner.stopping:
            trial = self.oracle.create_trial(tuner_id)
            if trial.status == TrialStatus.STOPPED:
                return
            try:
                metrics = self.run_trial(trial)
            except TrialFailed as failure:
                trial.status, trial.message = TrialStatus.FAILED, str(failure)
            else:
                self.oracle.update_trial(trial.trial_id, metrics)
                trial.status = TrialStatus.COMPLETED
            self.oracle.end_trial(trial)

    def run_trial(self, trial, *fit_args, **fit_kwargs) -> dict[str, float]:
        own = {one.name: one for one in self.sweep.trials}
        if trial.trial_id not in own:
            raise UserError(
                f"The chief hands out {trial.trial_id}, which is none of this worker: give both one command."
            )
        return self.runner.run(own[trial.trial_id])

    def save(self) -> None:
        self.oracle.save()
