"""Weights of a network that another run has trained."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from tfbnas import training
from tfbnas.architecture import Architecture
from tfbnas.checkpoints import Checkpoints
from tfbnas.errors import UserError

STAGE = "train-searched"


def weights_of_run(directory: str | os.PathLike, architecture: Architecture) -> dict[str, list[np.ndarray]]:
    """The weights of the network that a run trained, by layer.

    Args:
      directory: The run directory.
      architecture: The network; that of the run must be the same.

    Raises:
      UserError: The run has not trained a network yet, or another one.
    """
    model = training.trainable(architecture)
    checkpoints = Checkpoints(Path(directory) / "checkpoints" / STAGE, layers=model.layers)
    if checkpoints.restore(whole=False) is None:
        raise UserError(
            f"Expected a run directory with the checkpoints of a training ({STAGE}). Received: {os.fspath(directory)}, "
            "which has none."
        )
    return training.weights(model)
