"""Runs Larq Compute Engine's benchmark program on a machine and leaves nothing behind."""

from __future__ import annotations

import hashlib
import os
import re
import shlex
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any

from tfbnas.device import preflight
from tfbnas.device.log import Measurement, parse
from tfbnas.device.preflight import PROGRAM, Facts
from tfbnas.device.target import DeviceError, Target, tail
from tfbnas.errors import UserError

SPREAD = 0.10
_WARM = 10.0
_SIGNALS = {
    4: "an illegal instruction: the program is built for a newer processor",
    9: "killed, most likely because memory ran out",
    11: "a segmentation fault: program and model may be of different versions of Larq Compute Engine",
    15: "terminated",
}


@dataclass(frozen=True)
class Benchmark:
    """Result of one benchmark.

    Attributes:
      model: File name of the model.
      model_bytes: Size of the model.
      model_sha256: What it was exactly.
      target: The machine, as the user named it.
      facts: What the machine says of itself, before.
      temperature_after: In degrees Celsius; None where it cannot be read.
      settings: Program, threads, CPU mask, repetitions.
      measurement: Times and memory, without profiling.
      profile: A second run with the time of each operator, which disturbs the whole; None unless asked for.
      warnings: Why the figures may be wrong.
    """

    model: str
    model_bytes: int
    model_sha256: str
    target: str
    facts: Facts
    temperature_after: float | None
    settings: dict[str, Any]
    measurement: Measurement
    profile: Measurement | None = None
    warnings: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """JSON; times in milliseconds, memory in MB."""
        measured = self.measurement
        operators = [asdict(operator) for operator in self.profile.operators] if self.profile else []
        return {
            "format": 1,
            "model": self.model,
            "model_bytes": self.model_bytes,
            "model_sha256": self.model_sha256,
            "target": self.target,
            "device": asdict(self.facts) | {"temperature_after": self.temperature_after},
            "settings": self.settings,
            "mean": measured.mean,
            "deviation": measured.deviation,
            "minimum": measured.minimum,
            "maximum": measured.maximum,
            "median": measured.median,
            "count": measured.count,
            "first": measured.first,
            "initialization": measured.initialization,
            "memory": measured.memory,
            "profile_mean": self.profile.mean if self.profile else None,
            "operators": operators,
            "warnings": self.warnings,
        }


class Session:
    """A machine with the benchmark program in place, for one or many models. Use it in a `with` block.

    Leaving the block, for whatever reason, ends a program that still runs and removes all files.

    Args:
      target: The machine.
      binary: The benchmark program: a file on this machine, which is copied, else a path on the target. Default: the
        target's own `lce_benchmark_model`.

    Raises:
      DeviceError: The machine cannot be reached, cannot run the program, or has no room.
    """

    def __init__(self, target: Target, binary: str | os.PathLike | None = None):
        self.target = target
        self._binary = PROGRAM if binary is None else os.fspath(binary)
        self.directory = ""
        self.program = ""

    def __enter__(self) -> Session:
        self.directory = self.target.make_directory()
        try:
            self.facts = preflight.look(self.target, self.directory)
            preflight.check_machine(self.facts, self.target)
            self.program = self._install()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self.close()
        except DeviceError as failure:
            if error is None:
                raise
            if isinstance(error, UserError | KeyboardInterrupt | SystemExit):
                told = str(error) if isinstance(error, UserError) else "Interrupted."
                raise DeviceError(f"{told} Files may be left in {self.directory}: {failure}") from error

    def _install(self) -> str:
        local = Path(self._binary)
        if not local.is_file():
            return preflight.find_program(self.target, self._binary)
        preflight.check_program(preflight.read_program(local), self.facts, self.target)
        preflight.check_space(self.facts, local.stat().st_size, self.directory, self.target)
        remote = f"{self.directory}/{PROGRAM}"
        self.target.put(local, remote, mode="755")
        return remote

    def measure(
        self,
        model: str | os.PathLike,
        *,
        threads: int = 1,
        cpu_mask: str | None = None,
        repetitions: int = 50,
        profile: bool = False,
        xnnpack: bool = True,
        timeout: float = 300.0,
    ) -> Benchmark:
        """Measures one model; see `benchmark`."""
        _check(model, threads=threads, cpu_mask=cpu_mask, repetitions=repetitions, timeout=timeout)
        path = Path(model)
        facts, content = self.facts, path.read_bytes()
        preflight.check_space(facts, len(content), self.directory, self.target)
        remote = f"{self.directory}/model.tflite"
        self.target.put(path, remote)
        options = [f"--graph={remote}", f"--num_threads={threads}", f"--num_runs={repetitions}"]
        if not xnnpack:
            options.append("--use_xnnpack=false")
        measured = parse(self._run(options, cpu_mask, timeout))
        # Not the same run: timing every operator, and float ones outside XNNPACK, changes the whole.
        profiling = [*options, "--enable_op_profiling=true"]
        profiled = parse(self._run(profiling, cpu_mask, timeout)) if profile else None
        after = preflight.temperature(self.target)
        self.facts = replace(facts, temperature=after)  # before the next one
        return Benchmark(
            model=path.name,
            model_bytes=len(content),
            model_sha256=hashlib.sha256(content).hexdigest(),
            target=self.target.name,
            facts=facts,
            temperature_after=after,
            settings={
                "program": Path(self._binary).name,
                "threads": threads,
                "cpu_mask": cpu_mask,
                "repetitions": repetitions,
                "xnnpack": xnnpack,
            },
            measurement=measured,
            profile=profiled,
            warnings=_warnings(facts, after, measured, profiled, profile),
        )

    def _run(self, options: list[str], cpu_mask: str | None, timeout: float) -> str:
        mask = f"taskset {shlex.quote(cpu_mask)} " if cpu_mask else ""
        command = " ".join(shlex.quote(part) for part in (self.program, *options))
        process = shlex.quote(f"{self.directory}/process")
        # The number of the process, so that it can be ended where the connection or our patience has.
        started = shlex.quote(f"echo $$ > {process}; exec {mask}{command}")
        done = self.target.run(f"sh -c {started}; code=$?; rm -f {process}; exit $code", timeout=timeout)
        if done.code > 128:
            number = done.code - 128
            raise DeviceError(
                f"The benchmark program ended on {self.target.name} by {_SIGNALS.get(number, f'signal {number}')}."
            )
        if done.code in (126, 127):
            raise DeviceError(f"The benchmark program cannot run on {self.target.name}: {tail(done.output)}.")
        if done.code:
            parse(done.output + "\nBenchmarking failed.")
        return done.output

    def close(self) -> None:
        """Ends what still runs and removes the files."""
        if not self.directory:
            return
        directory = shlex.quote(self.directory)
        self.target.check(
            f"if [ -s {directory}/process ]; then kill -9 $(cat {directory}/process) 2>/dev/null; fi; "
            f"rm -rf {directory}",
            f"Removing {self.directory}",
        )
        self.directory = ""


def benchmark(
    model: str | os.PathLike, target: Target, *, binary: str | os.PathLike | None = None, **options: Any
) -> Benchmark:
    """Measures a model on a machine: checks it, copies program and model, runs, reads the log, cleans up.

    Args:
      model: A .tflite file on this machine.
      target: The machine, from `open_target`.
      binary: The program; see `Session`.

    Keyword Args:
      threads: Threads of the runtime. Default: 1.
      cpu_mask: Hexadecimal mask of the processors to use, for `taskset`. Default: all.
      repetitions: Runs at least; the program goes on until a second has passed. Default: 50.
      profile: Whether to run a second time for the time of each operator. Default: False.
      xnnpack: Whether float operators run in XNNPACK, as they do by default; in a profile they are then one line.
      timeout: Seconds for one run. Default: 300.

    Raises:
      UserError: An argument is wrong.
      DeviceError: Machine, program or model fails.
    """
    _check(model, **options)
    with Session(target, binary) as session:
        return session.measure(model, **options)


def _check(model: str | os.PathLike, *, cpu_mask: str | None = None, **positive: float) -> None:
    path = Path(model)
    if not path.is_file():
        raise UserError(f"Expected a .tflite file. Received: {path}, which does not exist.")
    with path.open("rb") as file:
        if file.read(8)[4:] != b"TFL3":
            raise UserError(f"Expected a TFLite model. Received: {path}, which is none; convert it with tfbnas.export.")
    for name, value in positive.items():
        if name in ("threads", "repetitions", "timeout") and not value > 0:
            raise UserError(f"Expected `{name}` to be positive. Received: {name}={value}.")
    if cpu_mask is not None and not re.fullmatch(r"(0x)?[0-9a-fA-F]+", cpu_mask):
        raise UserError(f"Expected `cpu_mask` to be a hexadecimal mask such as f0. Received: {cpu_mask!r}.")


def _warnings(
    facts: Facts, after: float | None, measured: Measurement, profiled: Measurement | None, asked: bool
) -> list[str]:
    found = []
    if measured.spread is not None and measured.spread > SPREAD:
        found.append(
            f"The runs spread by {measured.spread:.0%} around their mean (limit {SPREAD:.0%}): the processor "
            "throttles, is busy with something else, or moves between fast and slow cores; cool it, stop other "
            "programs, or choose cores with --cpu_mask."
        )
    if not facts.is_arm:
        found.append(
            f"{facts.machine} has no optimised binary kernels: these times say nothing about an ARM processor, not "
            "even which of two models is faster."
        )
    slow = [governor for governor in facts.governors if governor != "performance"]
    if slow:
        found.append(f"The CPU governor is {', '.join(slow)}; with `performance` the clock stays the same.")
    if after is not None and facts.temperature is not None and after - facts.temperature > _WARM:
        found.append(f"The processor went from {facts.temperature:.0f} to {after:.0f} °C during the benchmark.")
    if asked and not (profiled and profiled.operators):
        found.append("The program printed no times of operators.")
    return found
