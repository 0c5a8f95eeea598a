"""Benchmarks on a board, a phone or this machine. Imports no TensorFlow, so that it works everywhere and at once."""

from tfbnas.device.benchmark import Benchmark, Session, benchmark
from tfbnas.device.log import Measurement, OperatorTime, parse
from tfbnas.device.preflight import Facts
from tfbnas.device.target import DeviceError, Target
from tfbnas.device.targets import open_target

__all__ = [
    "Benchmark",
    "DeviceError",
    "Facts",
    "Measurement",
    "OperatorTime",
    "Session",
    "Target",
    "benchmark",
    "open_target",
    "parse",
]
