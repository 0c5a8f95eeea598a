"""Run directories as a real run leaves them, for tests of the report."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path

RESNET = {"stem": 16, "stage1/block1/inner": 16, "stage1/block2/inner": 16}
for _stage, _base in ((2, 32), (3, 64), (4, 128)):
    RESNET |= {f"stage{_stage}/{name}": _base for name in ("stream", "block1/inner", "block2/inner")}
VGG = {f"conv{i + 1}": base for i, base in enumerate((16, 32, 64, 64, 128, 128, 128, 128))}
TINY = {"conv1": 16, "conv2": 32}
MIB = 2**20
SETTINGS = """\
recipe: {recipe}
preset: {preset}
seed: 1
data:
  name: {data}
  directory: null
  image_size: 32
search:
  budget: 125829
  rounds: {rounds}
  initial_ratio: 1.5
  initial_sigma: 1.0
  final_sigma: 0.3
  minimal_ratio: 0.3
  penalty_weight: 0.3
  batch_size: 64
train:
  epochs: {epochs}
  learning_rate: 0.1
  weight_decay: 0.0001
  uniform:
  - 1.0
  - 2.0
"""


def _write(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2, sort_keys=True), encoding="utf-8")


def search(choices: dict[str, int], rounds: int, *, epochs: int = 4, floor: float = 0.9, seed: int = 0) -> dict:
    """Content of stages/search.json: μ drifts to a target of its own, the memory swings into the budget."""
    noise = random.Random(seed)
    target = {name: 0.8 + 1.3 * noise.random() for name in choices}
    history = []
    for r in range(rounds):
        done = (r + 1) / rounds
        sigma = 0.3 ** (r / max(1, rounds - 1))
        losses = []
        for epoch in range(epochs):
            progress = (r + (epoch + 1) / epochs) / rounds
            losses.append(floor + 1.3 * math.exp(-2.5 * progress) + 0.05 * noise.random())
        history.append(
            {
                "round": r,
                "loss": sum(losses) / epochs,
                "accuracy": 1 - sum(losses) / epochs / 3.2,
                "epochs": [{"loss": loss, "accuracy": 1 - loss / 3.2} for loss in losses],
                "validation_loss": losses[-1] + 0.1,
                "validation_accuracy": 0.97 - losses[-1] / 3.2,
                "memory": 125829 * (1 - 0.4 * math.exp(-3 * done) * math.cos(9 * done)),
                "sigma": sigma,
                "seconds": 31.5 + noise.random(),
                "choices": {
                    name: {"mu": mu, "sigma": sigma, "base": base, "channels": max(1, round(mu * base))}
                    for name, base in choices.items()
                    for mu in [1.5 + (target[name] - 1.5) * done**0.7 + 0.05 * noise.random()]
                },
            }
        )
    return {"seconds": 31.9 * rounds, "budget": 125829, "history": history}


def training(
    label: str, choices: dict[str, int], network: str, *, memory: float, level: float, epochs: int, method: str
) -> dict:
    """Content of a stages/train-*.json."""
    noise = random.Random(label)
    curve = [level * (1 - 0.75 * math.exp(-4.5 * (e + 1) / epochs)) + 0.02 * noise.random() for e in range(epochs)]
    return {
        "label": label,
        "architecture": {
            "method": method,
            "network": network,
            "choices": choices,
            "input_shape": [32, 32, 3],
            "classes": 10,
        },
        "accuracy": curve[-1],
        "test_images": 10000,
        "seconds": 21.3 * epochs * (0.4 + memory),
        "epochs": epochs,
        "memory": {"paper": memory * MIB, "deployed": memory * MIB + 8 * 1400 * (1 + memory)},
        "history": [
            {"epoch": e, "loss": 2.3 - 2.1 * a, "accuracy": a + 0.02}
            | ({"test_accuracy": a} if e % 2 or e == epochs - 1 else {})
            for e, a in enumerate(curve)
        ],
    }


def _operator(layer: str, declared: str, operator: str, weights: int, channels: int, **more: object) -> dict:
    row = {"layer": layer, "declared": declared, "operator": operator, "shape": [1, 8, 8, channels]}
    row |= {"weight_bytes": weights, "constant_bytes": 8 * channels, "bit_packed": operator == "LceBconv2d"}
    return row | {"output": "float32", "note": "", "reason": "", "remedy": "", "allowed": False} | more


def export(choices: dict[str, int]) -> dict:
    """Content of export.json: a quantise operator in front of each binary convolution."""
    rows = [_operator("stem", "float32 x float32", "CONV_2D", 1728, 16)]
    before = 16
    for name, channels in choices.items():
        layer = name.replace("/", "_") + "_conv"
        weights = channels * 9 * math.ceil(before / 32) * 4
        rows.append(_operator("", "", "LceQuantize", 0, 0, output="bitpacked", note="packs the signs for " + layer))
        rows.append(_operator(layer, "binary x binary", "LceBconv2d", weights, channels))
        before = channels
    rows.append(_operator("logits", "float32 x float32", "FULLY_CONNECTED", 5120, 10, shape=[1, 10]))
    return {
        "audit": rows,
        "parity": {
            "images": 256,
            "random": 16,
            "tolerance": 1e-4,
            "error": 2.13e-6,
            "error_deployed": 1.9e-6,
            "undecided": [17],
            "undecided_random": 0,
            "other_class": [],
            "accuracy": 0.8398,
            "accuracy_converted": 0.8398,
        },
        "sizes": {
            "file": 171234,
            "binary_weights": 118784,
            "float_parameters": 22188,
            "limit": 171453,
            "largest_float": [["logits", 5160], ["stem", 1728]],
            "information": 140972,
            "within_limit": True,
        },
        "conversions": {},
        "versions": {"tensorflow": "2.19.1", "larq": "0.14.0", "larq-compute-engine": "0.16.0"},
        "seconds": 21.5,
    }


LATENCY = {
    "CONV_2D": ("convolution", 0.3),
    "LceQuantize": ("quantize", 0.05),
    "LceBconv2d": ("binary_convolution", 0.2),
    "FULLY_CONNECTED": ("dense", 0.01),
}


def latency(exported: dict, names: tuple[str, ...] = ("pixel1", "raspberry_pi_4b")) -> dict:
    """Content of latency.json for an export.json: the k-th operator takes k thousandths more."""
    predictions = []
    for factor, name in enumerate(names, start=1):
        operators = []
        for k, row in enumerate(exported["audit"]):
            key, time = LATENCY[row["operator"]]
            operators.append({"layer": row["layer"], "operator": key, "milliseconds": factor * (time + k / 1000)})
            if key != "dense":
                operators[-1] |= {"mean_error": 0.03, "largest_error": 0.12}
        about = {"name": name, "device": f"Board {name} (core), one thread", "label": "model, not a measurement"}
        predictions.append(about | {"error": "Untested.", "sources": ["A <paper>."], "operators": operators})
    return {"format": 1, "predictions": predictions, "left_out": {}}


def benchmark(exported: dict, *, machine: str = "aarch64", sha256: str = "") -> dict:
    """Content of benchmark.json for an export.json, with a profile of every operator."""
    operators = [
        {"type": row["operator"], "name": f"tensor{k}", "milliseconds": 0.1 + k / 100}
        for k, row in enumerate(exported["audit"])
    ]
    return {
        "format": 1,
        "model": "model.tflite",
        "model_sha256": sha256,
        "target": "ssh:pi@board",
        "device": {"machine": machine, "model": "Board <9>", "governors": ["ondemand"], "temperature": None},
        "settings": {"threads": 1, "cpu_mask": None},
        "mean": 3.214,
        "deviation": 0.0451,
        "minimum": 3.141,
        "median": 3.2,
        "count": 50,
        "first": 9.06,
        "memory": 12.87,
        "profile_mean": 3.5,
        "operators": operators,
        "warnings": ["The CPU governor is ondemand; with `performance` the clock stays the same."],
    }


def latency_budget(path: Path, limit: float = 2.5, cost: float = 2.4) -> None:
    """Makes a run one whose search had a latency budget."""
    file = path / "stages/search.json"
    result = json.loads(file.read_text())
    result |= {"cost_name": "latency", "unit": "ms", "budget": limit, "cost": cost}
    for row in result["history"]:
        row["latency"] = row["cost"] = row.pop("memory") / 125829 * limit
    _write(file, result)
    settings = (path / "settings.yaml").read_text()
    settings += f"budget:\n  cost: latency\n  latency: {limit}\n  device: pixel1\n"
    (path / "settings.yaml").write_text(settings)


def unfinished_search(path: Path) -> int:
    """Makes a run one whose search still runs, as its checkpoints leave it; returns the rounds done."""
    file = path / "stages/search.json"
    history = json.loads(file.read_text())["history"][:-1]
    for place in ("stages/search.json", "architecture.json", "export.json"):
        (path / place).unlink()
    for stage in (path / "stages").glob("train-*.json"):
        stage.unlink()
    for done in (len(history) - 1, len(history)):
        rows = [{**row, "epoch": row["round"] + 1, "cost": row["memory"]} for row in history[:done]]
        choices = [row.pop("choices") for row in rows]
        for row in rows:
            del row["memory"], row["round"]
        state = {"epoch": done, "history": rows, "choices": choices}
        _write(path / f"checkpoints/search/step-{done:06d}/state.json", state)
    return len(history)


def run(
    path: Path,
    choices: dict[str, int],
    network: str,
    *,
    rounds: int = 12,
    epochs: int = 16,
    preset: str = "cpu",
    data: str = "cifar10",
    uniform: tuple[int, ...] = (1, 2),
    without_bei: bool = True,
) -> Path:
    """A finished run."""
    result = search(choices, rounds)
    found = {name: choice["channels"] for name, choice in result["history"][-1]["choices"].items()}
    result["architecture"] = {
        "method": "dms",
        "network": network,
        "choices": found,
        "input_shape": [32, 32, 3],
        "classes": 10,
    }
    _write(path / "stages/search.json", result)
    if without_bei:
        _write(path / "stages/search-no-bei.json", search(choices, rounds, floor=1.6, seed=3))
    _write(path / "architecture.json", result["architecture"])
    common = {"network": network, "epochs": epochs}
    _write(
        path / "stages/train-searched.json", training("DMS", found, memory=0.119, level=0.84, method="dms", **common)
    )
    equal = {name: round(1.12 * base) for name, base in choices.items()}
    _write(
        path / "stages/train-equal-memory.json",
        training("uniform, equal memory", equal, memory=0.120, level=0.80, method="uniform", **common),
    )
    for ratio in uniform:
        widths = {name: ratio * base for name, base in choices.items()}
        memory = (0.006 * ratio + 0.083 * ratio**2) if network == "resnet18" else (0.0065 * ratio + 0.0685 * ratio**2)
        _write(
            path / f"stages/train-uniform-{ratio:.2f}.json",
            training(
                f"BNN {ratio}×", widths, memory=memory, level=0.77 + 0.04 * math.log2(ratio), method="uniform", **common
            ),
        )
    _write(path / "export.json", export(found))
    text = SETTINGS.format(recipe=f"dms_{network}", preset=preset, data=data, rounds=rounds, epochs=epochs)
    (path / "settings.yaml").write_text(text, encoding="utf-8")
    return path
