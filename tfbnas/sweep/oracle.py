"""KerasTuner's part in a sweep: which trial is next, and what became of those before."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras_tuner
from keras_tuner.engine.trial import TrialStatus

from tfbnas.files import write_json
from tfbnas.serialization import plain
from tfbnas.sweep.options import Trial


class GridOracle(keras_tuner.Oracle):
    """Hands out the trials of a grid in order; trials that were interrupted or failed in an earlier process come first.

    Unlike KerasTuner's GridSearchOracle it goes on after a restart: there, the place in the grid is not in the stored
    state. The trial with the id "02" is `grid[2]`: values that travelled to a worker were rounded to 32 bits.

    Args:
      grid: The trials.
      finished: Whether the result of a trial is still there.
    """

    def __init__(self, grid: Sequence[Trial], *, finished: Callable[[Trial], bool]):
        self.grid = list(grid)
        self._finished = finished
        space = keras_tuner.HyperParameters()
        space.Choice("budget", list(dict.fromkeys(trial.budget for trial in grid)))
        space.Choice("penalty_weight", list(dict.fromkeys(trial.penalty_weight for trial in grid)))
        super().__init__(
            objective=keras_tuner.Objective("accuracy", "max"),
            max_trials=len(self.grid),
            hyperparameters=space,
            max_consecutive_failed_trials=len(self.grid) + 1,  # failures never end a sweep
            seed=1,
        )
        self.verbose = 0

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        trial = self.grid[int(trial_id)]
        values = {"budget": trial.budget, "penalty_weight": trial.penalty_weight}
        return {"status": TrialStatus.RUNNING, "values": values}

    @keras_tuner.synchronized
    def create_trial(self, tuner_id: str):
        # A worker may have ended a trial that waits for its retry since the chief was started again.
        self._retry_queue[:] = [name for name in self._retry_queue if not self._completed(name)]
        return super().create_trial(tuner_id)

    @keras_tuner.synchronized
    def end_trial(self, trial) -> None:
        trial.hyperparameters = self.trials[trial.trial_id].hyperparameters
        super().end_trial(trial)
        self.save()  # KerasTuner saved it before it took the trial from those that are going on

    def statuses(self) -> dict[str, str]:
        """For each trial's name "finished", "failed", "running" or "waiting"."""
        running = {trial.trial_id for trial in list(self.ongoing_trials.values())}
        found = {trial.name: "waiting" for trial in self.grid}
        for trial_id, trial in list(self.trials.items()):
            ended = {TrialStatus.COMPLETED: "finished", TrialStatus.FAILED: "failed"}.get(trial.status, "waiting")
            found[self.grid[int(trial_id)].name] = "running" if trial_id in running else ended
        return found

    def _completed(self, trial_id: str) -> bool:
        return self.trials[trial_id].status == TrialStatus.COMPLETED

    @keras_tuner.synchronized
    def save(self) -> None:
        """Writes oracle.json whole or not at all: a killed sweep must find it readable."""
        write_json(self._get_oracle_fname(), plain(self.get_state()))

    def _save_trial(self, trial) -> None:
        write_json(Path(self._get_trial_dir(trial.trial_id)) / "trial.json", plain(trial.get_state()))

    def reload(self) -> None:
        """Reads the stored state; every trial without a result waits to be run again."""
        super().reload()
        again = []
        for trial_id, trial in sorted(self.trials.items()):
            if not (self._completed(trial_id) and self._finished(self.grid[int(trial_id)])):
                trial.status, trial.message = TrialStatus.RUNNING, None
                again.append(trial_id)
        self._retry_queue = again[::-1]  # KerasTuner takes the last one first
        self.end_order = [trial_id for trial_id in self.trials if trial_id not in again]
        self._run_times.clear()
