"""Measured latency as a cost of a search: what `tfbnas.costs.MeasuredLatency` needs to know of a machine.

from tfbnas.costs import Budget, MeasuredLatency
from tfbnas.device import Session, measured, open_target

with Session(open_target("ssh:pi@board"), "lce_benchmark_model_aarch64") as session:
    budget = Budget(MeasuredLatency(measured.on_target(session)), 5.0)  # for a search that needs no gradient of it
    ...
"""

from __future__ import annotations

import logging
import platform
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfbnas.device.benchmark import Session
from tfbnas.errors import UserError

if TYPE_CHECKING:  # this package imports no TensorFlow
    from tfbnas.costs.measured import Measure, Prepare


def on_host(*, runs: int = 5, threads: int = 1) -> Prepare:
    """Measures in this process, with Larq Compute Engine's interpreter.

    A processor that is not ARM has no optimised binary kernels: float convolutions then beat binary ones, and a search
    learns the wrong thing unless that very machine is the target. A warning in the log says so.

    Args:
      runs: Inferences for one measurement, of which the median is taken. Default: 5.
      threads: Of the interpreter. Default: 1.

    Raises:
      UserError: `runs` or `threads` is not positive.
    """
    for name, value in (("runs", runs), ("threads", threads)):
        if not value > 0:
            raise UserError(f"Expected `{name}` to be positive. Received: {name}={value}.")
    if platform.machine().lower() not in ("aarch64", "arm64"):
        logging.getLogger(__name__).warning(
            "%s has no optimised binary kernels: latency measured on this machine says nothing about an ARM processor.",
            platform.machine(),
        )

    def prepare(model: Any) -> Measure:
        import numpy as np

        from tfbnas.export.convert import Interpreter

        interpreter = Interpreter(_flatbuffer(model), threads=threads)
        image = np.random.default_rng(0).normal(size=(1, *model.input_shape[1:])).astype(np.float32)
        interpreter.times(image, 1)  # the first run allocates
        return lambda: 1e3 * float(np.median(interpreter.times(image, runs)))

    return prepare


def on_target(session: Session, *, repetitions: int = 20, **options: Any) -> Prepare:
    """Measures on a board, a phone or this machine, with Larq Compute Engine's benchmark program.

    Args:
      session: Open as long as the search lasts.
      repetitions: Inferences for one measurement, of which the mean is taken. The program goes on until a second has
        passed. Default: 20.
      options: Further arguments of `Session.measure`: threads, cpu_mask, xnnpack, timeout.

    Raises:
      DeviceError: While it measures: the machine, the program or the network fails.
    """

    def prepare(model: Any) -> Measure:
        content = _flatbuffer(model)

        def measure() -> float:
            with tempfile.TemporaryDirectory() as directory:
                path = Path(directory) / "sampled.tflite"
                path.write_bytes(content)
                return session.measure(path, repetitions=repetitions, **options).measurement.mean

        return measure

    return prepare


def _flatbuffer(model: Any) -> bytes:
    from tfbnas.export import convert_model, deploy

    return convert_model(deploy(model))
