"""KerasTuner's part in a sweep: which trial is next, and what became of those before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import keras_tuner
from keras_tuner.engine.trial import Trial as TunerTrial
from keras_tuner.engine.trial import TrialStatus

from tfbnas.sweep.options import Trial


class GridOracle(keras_tuner.Oracle):
    """Hands out the trials of a grid in order, and keeps what became of them.

    All trials are known from the beginning; which of them wait is this class's own state. So a sweep goes on from the
    results in its directory, and needs nothing of what KerasTuner stored. The trial with the id "02" is `grid[2]`:
    values that travelled to a worker were rounded to 32 bits.

    Args:
      grid: The trials.
    """

    def __init__(self, grid: Sequence[Trial]):
        self.grid = {f"{i:0{len(str(len(grid)))}d}": trial for i, trial in enumerate(grid)}
        space = keras_tuner.HyperParameters()
        space.Choice("budget", list(dict.fromkeys(trial.budget for trial in grid)))
        space.Choice("penalty_weight", list(dict.fromkeys(trial.penalty_weight for trial in grid)))
        super().__init__(
            objective=keras_tuner.Objective("accuracy", "max"),
            max_trials=len(grid),
            hyperparameters=space,
            max_consecutive_failed_trials=2 * len(grid) + 1,  # failures never end a sweep
            seed=1,
        )
        self.verbose = 0
        self.waiting = list(self.grid)
        for trial_id, trial in self.grid.items():
            values = space.copy()
            values.values = {"budget": trial.budget, "penalty_weight": trial.penalty_weight}
            self.trials[trial_id] = TunerTrial(values, trial_id=trial_id, status=TrialStatus.IDLE)

    def finish(self, outcomes: Mapping[str, Mapping[str, float]]) -> None:
        """Counts trials as done by an earlier process; takes the metrics of each by its name."""
        for trial_id, trial in self.grid.items():
            if trial.name in outcomes:
                self.start_order.append(trial_id)
                self.update_trial(trial_id, outcomes[trial.name])
                self.trials[trial_id].status = TrialStatus.COMPLETED
                self.end_trial(self.trials[trial_id])

    @keras_tuner.synchronized
    def create_trial(self, tuner_id: str):
        if tuner_id in self.ongoing_trials or not self.waiting:
            return super().create_trial(tuner_id)  # the same one again, or that nothing is left
        trial = self.trials[self.waiting.pop(0)]
        trial.status, trial.message = TrialStatus.RUNNING, None
        self.tuner_ids.add(tuner_id)
        self.ongoing_trials[tuner_id] = trial
        self.start_order.append(trial.trial_id)
        self.save()
        return trial

    @keras_tuner.synchronized
    def end_trial(self, trial) -> None:
        trial.hyperparameters = self.trials[trial.trial_id].hyperparameters
        # A worker may end a trial that waits since the chief was started again.
        if trial.status == TrialStatus.COMPLETED and trial.trial_id in self.waiting:
            self.waiting.remove(trial.trial_id)
        super().end_trial(trial)
        self.save()  # KerasTuner saved it before it took the trial from those that are going on

    def statuses(self) -> dict[str, str]:
        """For each trial's name "finished", "failed", "running" or "waiting"."""
        running = {trial.trial_id for trial in list(self.ongoing_trials.values())}
        ended = {TrialStatus.COMPLETED: "finished", TrialStatus.FAILED: "failed"}
        return {
            trial.name: "running" if trial_id in running else ended.get(self.trials[trial_id].status, "waiting")
            for trial_id, trial in self.grid.items()
        }
