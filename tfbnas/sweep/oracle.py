"""KerasTuner's part in a sweep: which trial is next, and what became of those before."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import keras_tuner
from keras_tuner.engine.trial import Trial as TunerTrial
from keras_tuner.engine.trial import TrialStatus

from tfbnas.sweep.grid import Trial


class GridOracle(keras_tuner.Oracle):
    """Hands out the trials of a grid in order, and keeps what became of them.

    All trials are known from the beginning; which of them wait is this class's own state. So a sweep goes on from the
    results in its directory, and needs nothing of what KerasTuner stored. The id of a trial is its name: values that
    travelled to a worker were rounded to 32 bits.

    Args:
      grid: The trials.
    """

    def __init__(self, grid: Sequence[Trial]):
        self.grid = {trial.name: trial for trial in grid}
        self.waiting = list(self.grid)
        space = keras_tuner.HyperParameters()
        values = {name: _settings(trial) for name, trial in self.grid.items()}
        for setting in dict.fromkeys(setting for own in values.values() for setting in own):
            space.Choice(setting, list(dict.fromkeys(own[setting] for own in values.values() if setting in own)))
        super().__init__(
            objective=keras_tuner.Objective("accuracy", "max"),
            max_trials=len(grid),
            hyperparameters=space,
            max_consecutive_failed_trials=2 * len(grid) + 1,  # failures never end a sweep
            seed=1,
        )
        self.verbose = 0
        for name, own in values.items():
            point = space.copy()
            point.values = own
            self.trials[name] = TunerTrial(point, trial_id=name, status=TrialStatus.IDLE)

    def finish(self, outcomes: Mapping[str, Mapping[str, float]]) -> None:
        """Counts trials as done by an earlier process; takes the metrics of each by its name."""
        for name in self.grid:
            if name in outcomes:
                self.start_order.append(name)
                self.update_trial(name, outcomes[name])
                self.trials[name].status = TrialStatus.COMPLETED
                self.end_trial(self.trials[name])

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
            name: "running" if name in running else ended.get(self.trials[name].status, "waiting") for name in self.grid
        }


def _settings(trial: Trial) -> dict[str, str | float]:
    """What tells a trial from the others, in types that KerasTuner knows."""
    point = trial.point
    known = {"budget": point.budget, "penalty_weight": point.penalty_weight, "seed": trial.seed}
    own: dict[str, str | float] = {name: value for name, value in known.items() if value is not None}
    return own | {name: json.dumps(value) for name, value in point.varied.items()}
