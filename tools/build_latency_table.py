"""Measures the operators of binary networks on your own device and writes a latency table for tfbnas.

    python tools/build_latency_table.py --target ssh:pi@board --binary lce_benchmark_model_aarch64 --out board.json
    python tools/build_latency_table.py --target adb --binary lce_benchmark_model_android_arm64 --out phone.json

Some 300 models of one to four operators are converted here and measured there; about half an hour. Operators of
networks that are int8 as a whole are among them. The device must run 64-bit ARM programs: on x86 Larq Compute Engine
has no optimised kernels, and its times order networks wrongly. The benchmark program comes from
https://github.com/larq/compute-engine/releases, in the version of the installed larq-compute-engine. Keep the device
cool and idle, set the CPU governor to `performance`, and choose equal cores with --cpu_mask where it has several kinds.

Measurements go to OUT.rows.jsonl one by one; the same command continues an interrupted run. Use the table by its path:
`Latency("board.json")`, or as the device of a latency budget.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

import tfbnas  # noqa: F401  (selects Keras 2)
from tfbnas.costs.latency_features import OPERATORS, Shape
from tfbnas.costs.latency_fit import fit, table
from tfbnas.device import Benchmark, Session, open_target
from tfbnas.device.benchmark import SPREAD
from tfbnas.errors import UserError
from tfbnas.files import write_json
from tfbnas.quiet import captured

CLOCK = 0.01
"""Milliseconds: profiles have three decimals, so times below it are not taken for more exact than 10 %."""
ATTEMPTS = 3
INT8 = "int8_"
"""In front of the names of operators that are int8."""


@dataclass(frozen=True)
class Point:
    """One model to measure: its main operator, height and channels of its input, channels of its output."""

    operator: str
    height: int
    inputs: int
    outputs: int
    kernel: int = 1
    stride: int = 1

    @property
    def key(self) -> str:
        return "-".join(str(value) for value in asdict(self).values())

    @property
    def kind(self) -> str:
        """The operator, whatever it computes with."""
        return self.operator.removeprefix(INT8)

    @property
    def shape(self) -> Shape:
        """Size of the main operator."""
        size = 1 if self.kind == "global_pool" else -(-self.height // self.stride)
        if self.kind == "upsampling":
            size = 2 * self.height
        kernel = self.height if self.kind == "global_pool" else self.kernel
        return Shape(self.inputs, self.outputs, size, size, (kernel, kernel), self.stride)


def plan() -> list[Point]:
    """What is measured: sizes that tell the features of every operator apart."""
    wide = [(16, 16), (32, 32), (24, 40), (64, 64), (33, 64), (96, 48), (128, 128), (256, 64), (64, 256), (144, 20)]
    windows = [(1, 1), (1, 2), (3, 2), (5, 1), (5, 2)]
    points = []
    for operator in ("binary_convolution", "packed_convolution"):
        points += [Point(operator, h, i, o, 3) for h in (7, 14, 28) for i, o in wide]
        points += [Point(operator, 56, i, o, 3) for i, o in wide[:4]]
        points += [Point(operator, h, i, o, k, s) for h in (14, 28) for i, o in (wide[3], wide[6]) for k, s in windows]
    for height, kernel, stride in ((32, 3, 1), (64, 3, 2), (64, 7, 2)):
        points += [Point("convolution", height, 3, o, kernel, stride) for o in (16, 64)]
    for kernel, stride in ((1, 1), (1, 2), (3, 1)):
        some = ((32, 64), (64, 64), (24, 40))
        points += [Point("convolution", h, i, o, kernel, stride) for h in (8, 16) for i, o in some]
    for kernel, stride in ((3, 1), (3, 2), (5, 1)):
        points += [Point("depthwise", h, c, c, kernel, stride) for h in (16, 28) for c in (32, 64)]
    points += [Point("dense", 1, i, o) for i, o in ((128, 10), (256, 100), (512, 1000))]
    for operator in ("add", "normalization", "activation"):
        points += [Point(operator, h, c, c) for h in (8, 28, 56) for c in (16, 64)]
    points += [Point("concatenate", h, c, 2 * c) for h in (8, 28, 56) for c in (16, 64)]
    points += [Point("upsampling", h, c, c) for h in (4, 8, 28) for c in (16, 64, 128)]
    for operator in ("max_pool", "average_pool", "packed_max_pool"):
        points += [Point(operator, h, c, c, k, 2) for h in (16, 28, 56) for c, k in ((32, 2), (64, 2), (64, 3))]
    points += [Point("global_pool", h, c, c) for h in (7, 14, 28) for c in (64, 256)]
    int8 = [replace(point, operator=INT8 + point.operator) for point in points if INT8 + point.operator in OPERATORS]
    return points + int8 + [Point("int8_convolution", h, c, 2 * c, 3) for h in (8, 16) for c in (8, 16, 40)]


def flatbuffer(point: Point) -> bytes:
    """The point's model, converted by Larq Compute Engine, or to int8 by TensorFlow Lite."""
    import larq as lq
    import tensorflow as tf

    from tfbnas.export import convert_model

    layers = tf.keras.layers
    same = {"padding": "same", "use_bias": False}
    binary = {**same, "input_quantizer": "ste_sign", "kernel_quantizer": "ste_sign", "pad_values": 1.0}
    inputs = x = tf.keras.Input((point.height, point.height, point.inputs))
    second: list[Any] = []

    def convolution(tensor: Any, outputs: int, kernel: int, stride: int) -> Any:
        # Without a scale of its own LCE would compute another operator than in a network.
        tensor = lq.layers.QuantConv2D(outputs, kernel, stride, **binary)(tensor)
        return layers.BatchNormalization(beta_initializer="random_normal")(tensor)

    if point.operator == "binary_convolution":
        x = convolution(x, point.outputs, point.kernel, point.stride)
    elif point.operator == "packed_convolution":
        x = convolution(convolution(x, point.outputs, point.kernel, point.stride), 8, 1, 1)
    elif point.operator == "packed_max_pool":
        x = layers.MaxPool2D(point.kernel, point.stride, padding="same")(convolution(x, point.outputs, 1, 1))
        x = convolution(x, 8, 1, 1)
    elif point.kind in ("add", "concatenate"):
        second = [tf.keras.Input(inputs.shape[1:])]
        x = (layers.Add() if point.kind == "add" else layers.Concatenate())([x, *second])
    else:
        makers: dict[str, Callable[[], Any]] = {
            "convolution": lambda: layers.Conv2D(point.outputs, point.kernel, point.stride, **same),
            "depthwise": lambda: layers.DepthwiseConv2D(point.kernel, point.stride, **same),
            "dense": lambda: layers.Dense(point.outputs),
            "normalization": lambda: layers.BatchNormalization(
                beta_initializer="random_normal", moving_variance_initializer=tf.keras.initializers.Constant(2.0)
            ),
            "activation": lambda: layers.ReLU(),
            "max_pool": lambda: layers.MaxPool2D(point.kernel, point.stride, padding="same"),
            "average_pool": lambda: layers.AveragePooling2D(point.kernel, point.stride, padding="same"),
            "global_pool": lambda: layers.GlobalAveragePooling2D(),
            "upsampling": lambda: layers.UpSampling2D(),
        }
        x = layers.Flatten()(x) if point.kind == "dense" else x
        x = makers[point.kind]()(x)
    model = tf.keras.Model([inputs, *second] if second else inputs, x)
    return _int8(model) if point.operator.startswith(INT8) else convert_model(model)


def _int8(model: Any) -> bytes:
    """A float model in TensorFlow Lite's int8, inputs and outputs too."""
    import numpy as np
    import tensorflow as tf

    def samples() -> Iterable[list[Any]]:
        random = np.random.default_rng(0)
        for _ in range(4):
            yield [random.normal(size=(1, *tensor.shape[1:])).astype(np.float32) for tensor in model.inputs]

    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = samples
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    with captured():
        return converter.convert()


def rows(point: Point, result: Benchmark) -> list[dict[str, Any]]:
    """The times of operators that a benchmark of the point's model tells.

    Raises:
      UserError: The profile has not the operators that the model has.
    """
    profile = result.profile.operators if result.profile else ()
    found: dict[str, list[float]] = {}
    for operator in profile:
        found.setdefault(operator.type, []).append(operator.milliseconds)
    binary = {
        "binary_convolution": "LceBconv2d",
        "packed_convolution": "LceBconv2d",
        "packed_max_pool": "LceBMaxPool2d",
    }
    name = binary.get(point.operator)
    times = found.get(name, []) if name else [sum(operator.milliseconds for operator in profile)] if profile else []
    if not times:
        raise UserError(
            f"The profile of {point.key} has no operator {name or 'at all'}, but {sorted(found)}; use the benchmark "
            "program of the same version as the installed larq-compute-engine."
        )
    measured = [(point.operator, point.shape, times[0])]
    if "LceQuantize" in found:
        area = Shape(point.inputs, point.inputs, point.height, point.height)
        measured.append(("quantize", area, found["LceQuantize"][0]))
    return [{"operator": o, "shape": asdict(s), "milliseconds": t} for o, s, t in measured]


def measure(
    session: Session, points: Iterable[Point], file: Path, settings: dict[str, Any], **options: Any
) -> list[dict]:
    """Measures what `file` does not have yet and appends it there; returns all that it has then.

    Raises:
      UserError: The file was written with other settings.
      DeviceError: The device fails; what was measured is kept.
    """
    lines = _read(file)
    if not lines:
        _append(file, {"settings": settings})
    elif lines[0].get("settings") != settings:
        raise UserError(
            f"{file} was measured with {lines[0].get('settings')}. Received: {settings}; choose another --out, or "
            "delete the file."
        )
    done = {line["key"]: line for line in lines[1:]}
    points = list(points)
    for index, point in enumerate(points, start=1):
        if point.key in done:
            continue
        with tempfile.TemporaryDirectory() as directory:
            model = Path(directory) / f"{point.key}.tflite"
            model.write_bytes(flatbuffer(point))
            for _ in range(ATTEMPTS):
                result = session.measure(model, profile=True, **options)
                spread = result.measurement.spread or 0.0
                if spread <= SPREAD:
                    break
        line: dict[str, Any] = {"key": point.key, "spread": spread, "rows": rows(point, result)}
        done[point.key] = line
        _append(file, line)
        note = f"  spread {spread:.0%}: throttled or busy?" if spread > SPREAD else ""
        print(f"[{index}/{len(points)}] {point.key}: {line['rows'][0]['milliseconds']:.3f} ms{note}", flush=True)
    return [done[point.key] for point in points]


def _read(file: Path) -> list[dict[str, Any]]:
    """Whole lines; one that an interruption cut off is measured again."""
    if not file.exists():
        return []
    found = []
    for line in file.read_text().splitlines():
        try:
            found.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return found


def _append(file: Path, line: dict[str, Any]) -> None:
    cut = file.exists() and file.stat().st_size and not file.read_bytes().endswith(b"\n")
    with file.open("a") as stream:
        stream.write(("\n" if cut else "") + json.dumps(line) + "\n")


def fitted(lines: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The operators of a table, fitted to measured lines."""
    collected: dict[str, list[tuple[Shape, float]]] = {name: [] for name in OPERATORS}
    for line in lines:
        for row in line["rows"]:
            shape = Shape(**{**row["shape"], "kernel": tuple(row["shape"]["kernel"])})
            if row["milliseconds"] > 0:
                collected[row["operator"]].append((shape, row["milliseconds"]))
    return {
        name: fit(name, [shape for shape, _ in found], [time for _, time in found], floor=CLOCK)
        for name, found in collected.items()
        if found
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--target", required=True, help="ssh:user@host, adb or adb:serial")
    parser.add_argument("--binary", help="lce_benchmark_model: a file here, which is copied, or a path on the target")
    parser.add_argument("--out", type=Path, required=True, help="the table, JSON")
    parser.add_argument("--device", help="what the table calls the device (default: what it says of itself)")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--cpu_mask", help="hexadecimal mask of processors for taskset")
    parser.add_argument("--repetitions", type=int, default=50)
    parser.add_argument("--timeout", type=float, default=300.0, help="seconds for one run (default 300)")
    parser.add_argument("--directory", default="", help="directory on the target for temporary files")
    parser.add_argument("--ssh_config", help="settings of ssh instead of ~/.ssh/config")
    return parser


def build(options: argparse.Namespace, points: Sequence[Point] | None = None) -> dict[str, Any]:
    """Measures, fits and returns the table."""
    target = open_target(options.target, directory=options.directory, ssh_config=options.ssh_config)
    with Session(target, options.binary) as session:
        facts = session.facts
        if not facts.is_arm:
            raise UserError(
                f"Expected a device that runs 64-bit ARM programs. Received: {options.target} ({facts.machine}), whose "
                "times are no stand-in for those of ARM: only there has Larq Compute Engine optimised kernels."
            )
        used = {"threads": options.threads, "cpu_mask": options.cpu_mask, "repetitions": options.repetitions}
        program = Path(options.binary).name if options.binary else "lce_benchmark_model"
        settings = {"target": options.target, "machine": facts.model or facts.machine, "program": program, **used}
        rows_file = options.out.with_name(options.out.name + ".rows.jsonl")
        options.out.parent.mkdir(parents=True, exist_ok=True)
        lines = measure(session, points or plan(), rows_file, settings, timeout=options.timeout, **used)
    unsteady = sum(line["spread"] > SPREAD for line in lines)
    return table(
        fitted(lines),
        name=options.out.stem,
        device=options.device or f"{facts.model or facts.machine}, {options.threads} thread(s)",
        label="fitted to measurements of single operators",
        sources=[f"Measured with tools/build_latency_table.py: {json.dumps(settings)}"],
        error="Each operator: relative error of the fit to its measurements, mean and largest, over the given number "
        f"of sizes. {unsteady} of {len(lines)} measurements spread by more than {SPREAD:.0%}.",
        threads=options.threads,
    )


def _terminated(number: int, frame: object) -> NoReturn:
    raise SystemExit(128 + number)


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0, 2 for an error that the user can mend, 130 after an interrupt."""
    options = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, _terminated)
    try:
        result = build(options)
        write_json(options.out, result)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; the same command continues", file=sys.stderr)
        return 130
    for name, entry in result["operators"].items():
        shown = f"mean error {entry['mean_error']:.1%}, largest {entry['largest_error']:.1%}"
        print(f"{name:<20} {entry['points']:>3} sizes, {shown}")
    print(options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
