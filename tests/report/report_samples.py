"""Run directories as a real run leaves them, for tests of the report."""

from __future__ import annotations

import json
import math
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

from tfbnas.results import STATE, Limited, Role, SearchResult, TrainingResult

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


def write(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2, sort_keys=True), encoding="utf-8")


def put(path: Path, stage: str, result: SearchResult | TrainingResult) -> None:
    """Stores the result of a stage as a run does."""
    write(path / f"stages/{stage}.json", result.to_dict())


def take(path: Path, stage: str) -> Any:
    """The result of a stage."""
    kind = TrainingResult if stage.startswith("train-") else SearchResult
    return kind.from_dict(json.loads((path / f"stages/{stage}.json").read_text()))


def change(path: Path, stage: str, **values: Any) -> None:
    """Replaces fields of a stage's result."""
    put(path, stage, replace(take(path, stage), **values))


def architecture(method: str, network: str, choices: dict[str, Any], **options: Any) -> dict[str, Any]:
    about = {"method": method, "network": network, "choices": choices, "input_shape": [32, 32, 3], "classes": 10}
    return {**about, "format": 2, "options": options}


def memory_limit(limit: float = 125829.0, **values: float) -> Limited:
    return Limited("memory", "MiB", 2.0**20, limit, **values)


def search(
    choices: dict[str, int],
    rounds: int,
    *,
    network: str = "resnet18",
    epochs: int = 4,
    floor: float = 0.9,
    seed: int = 0,
) -> SearchResult:
    """A search over widths: μ drifts to a target of its own, the memory swings into the budget."""
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
                "epoch": r + 1,
                "loss": sum(losses) / epochs,
                "accuracy": 1 - sum(losses) / epochs / 3.2,
                "epochs": [{"loss": loss, "accuracy": 1 - loss / 3.2} for loss in losses],
                "validation_loss": losses[-1] + 0.1,
                "validation_accuracy": 0.97 - losses[-1] / 3.2,
                "cost": 125829 * (1 - 0.4 * math.exp(-3 * done) * math.cos(9 * done)),
                "sigma": sigma,
                "seconds": 31.5 + noise.random(),
                "choices": {
                    name: width(mu, sigma, base)
                    for name, base in choices.items()
                    for mu in [1.5 + (target[name] - 1.5) * done**0.7 + 0.05 * noise.random()]
                },
            }
        )
    found = {name: choice["closed"] for name, choice in history[-1]["choices"].items()}
    return SearchResult(
        "dms",
        network,
        "Expansion ratio",
        (memory_limit(found=0.119 * MIB, expected=history[-1]["cost"]),),
        architecture("dms", network, found),
        31.9 * rounds,
        history,
    )


def width(mu: float, sigma: float, base: int) -> dict[str, Any]:
    """What a search over widths keeps of a choice."""
    return {
        "value": mu,
        "low": mu - sigma,
        "high": mu + sigma,
        "base": base,
        "closed": max(1, round(mu * base)),
        "candidates": [mu - 0.8 * sigma, mu, mu + 0.8 * sigma],
        "probabilities": [0.32, 0.36, 0.32],
        "candidate_channels": [round(base * (mu + k * sigma)) for k in (-0.8, 0, 0.8)],
    }


def training(
    key: str, label: str, role: Role, order: int, built: dict[str, Any], *, memory: float, level: float, epochs: int
) -> TrainingResult:
    """A trained network; `memory` in MiB."""
    noise = random.Random(label)
    curve = [level * (1 - 0.75 * math.exp(-4.5 * (e + 1) / epochs)) + 0.02 * noise.random() for e in range(epochs)]
    return TrainingResult(
        key,
        label,
        role,
        order,
        built,
        costs={"memory": memory * MIB},
        memory={"paper": memory * MIB, "deployed": memory * MIB + 8 * 1400 * (1 + memory)},
        test={"accuracy": curve[-1]},
        test_images=10000,
        epochs=epochs,
        seconds=21.3 * epochs * (0.4 + memory),
        history=[
            {"epoch": e, "loss": 2.3 - 2.1 * a, "accuracy": a + 0.02}
            | ({"test_accuracy": a} if e % 2 == 0 or e == epochs else {})
            for e, a in enumerate(curve, start=1)
        ],
    )


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
    history = take(path, "search").history
    for row in history:
        row["cost"] *= limit / 125829
    change(path, "search", costs=(Limited("latency", "ms", 1.0, limit, cost, cost),), history=history)
    for file in sorted((path / "stages").glob("train-*.json")):
        change(path, file.stem, costs={"latency": cost if file.stem == "train-searched" else 2 * cost})
    settings = (path / "settings.yaml").read_text()
    settings += f"budget:\n  cost: latency\n  latency: {limit}\n  device: pixel1\n"
    (path / "settings.yaml").write_text(settings)


def checkpoint(path: Path, stage: str, result: SearchResult | TrainingResult, history: list[dict[str, Any]]) -> None:
    """A checkpoint of a stage that still runs."""
    state = {"epoch": len(history), "history": history, STATE: replace(result, history=[]).to_dict()}
    write(path / f"checkpoints/{stage}/step-{len(history):06d}/state.json", state)


def unfinished_search(path: Path) -> int:
    """Makes a run one whose search still runs, as its checkpoints leave it; returns the rounds done."""
    result = take(path, "search")
    about = replace(result, costs=(memory_limit(),), architecture={}, seconds=0.0)
    for place in ("architecture.json", "export.json", *(f"stages/{f.name}" for f in (path / "stages").iterdir())):
        (path / place).unlink()
    for done in (len(result.history) - 2, len(result.history) - 1):
        checkpoint(path, "search", about, result.history[:done])
    return done


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
    """A finished run of a search over widths."""
    result = search(choices, rounds, network=network)
    put(path, "search", result)
    if without_bei:
        put(path, "search-no-bei", search(choices, rounds, network=network, floor=1.6, seed=3))
    write(path / "architecture.json", result.architecture)
    widths = {("searched", "DMS", "searched"): (result.architecture["choices"], 0.119, 0.84)}
    equal = {name: round(1.12 * base) for name, base in choices.items()}
    widths["equal-memory", "uniform, equal memory", "baseline"] = (equal, 0.120, 0.80)
    for ratio in uniform:
        memory = (0.006 * ratio + 0.083 * ratio**2) if network == "resnet18" else (0.0065 * ratio + 0.0685 * ratio**2)
        wide = {name: ratio * base for name, base in choices.items()}
        widths[f"uniform-{ratio:.2f}", f"BNN {ratio}x", "baseline"] = (wide, memory, 0.77 + 0.04 * math.log2(ratio))
    for order, ((key, label, role), (own, memory, level)) in enumerate(widths.items()):
        built = architecture("dms" if role == "searched" else "uniform", network, own)
        trained = training(key, label, role, order, built, memory=memory, level=level, epochs=epochs)
        put(path, f"train-{key}", trained)
    write(path / "export.json", export(result.architecture["choices"]))
    text = SETTINGS.format(recipe=f"dms_{network}", preset=preset, data=data, rounds=rounds, epochs=epochs)
    (path / "settings.yaml").write_text(text, encoding="utf-8")
    return path


FABRIC = {
    f"group{group}/block{block}/{kind}": 0.1 + 0.11 * index
    for index, (group, block, kind) in enumerate(
        [
            (1, 0, "body"),
            (1, 0, "skip"),
            (1, 1, "body"),
            (1, 1, "skip"),
            (2, 0, "body"),
            (2, 0, "from0"),
            (2, 1, "skip"),
        ]
    )
} | {"group2/block1/from_input": 0.95}


def fabric(path: Path) -> Path:
    """A search over the modules of a fabric, with the network inside it trained for comparison."""
    kept = {name: probability > 0.5 for name, probability in FABRIC.items()}
    history = [
        {
            "epoch": epoch,
            "loss": 2.0 / epoch,
            "accuracy": 0.2 * epoch,
            "cost": 9.0 - epoch,
            "entropy": 0.3 - 0.05 * epoch,
            "warm_up": epoch == 1,
            "choices": {
                name: {"value": 0.95 + (p - 0.95) * epoch / 4, "closed": kept[name]} for name, p in FABRIC.items()
            },
        }
        for epoch in (1, 2, 3, 4)
    ]
    found = architecture("bsn", "resnet_fabric", kept, n=2)
    costs = (Limited("steps", "steps", 1.0, 6.0, found=5.0, expected=5.5),)
    put(
        path,
        "search",
        SearchResult("bsn", "resnet_fabric", "Probability to be kept", costs, found, 3.0, history),
    )
    plain = architecture("plain", "resnet_fabric", {}, n=2, links=False)
    other = training("plain", "ResNet-14", "reference", 2, plain, memory=0.3, level=0.8, epochs=3)
    put(path, "train-plain", replace(other, costs={"steps": 14.0}))
    settings = "recipe: bsn_resnet_fabric\ndata: {name: cifar10-quick}\nsearch: {epochs: 4}\n"
    (path / "settings.yaml").write_text(settings)
    return path


def drawn_at_random(path: Path, choices: dict[str, Any], network: str, *, candidates: int = 12) -> Path:
    """A random search, of which the report knows nothing: each row has the best candidate so far."""
    noise, best, history = random.Random(1), -1.0, []
    for epoch in range(1, candidates + 1):
        accuracy = 0.4 + 0.3 * noise.random()
        if accuracy > best:
            best, value = (
                accuracy,
                {
                    name: noise.random() < 0.5 if base is True else max(1, round(base * (0.3 + 2 * noise.random())))
                    for name, base in choices.items()
                },
            )
        row = {"epoch": epoch, "accuracy": accuracy, "best_accuracy": best, "cost": MIB * (0.08 + 0.04 * accuracy)}
        kept = {
            n: {"value": float(v), "closed": v} | ({} if v in (True, False) else {"base": choices[n]})
            for n, v in value.items()
        }
        history.append({**row, "seconds": 3.0, "choices": kept})
    found = architecture("dice", network, value)
    costs = (memory_limit(found=0.1 * MIB, expected=0.1 * MIB),)
    put(path, "search", SearchResult("dice", network, "Channels", costs, found, 36.0, history))
    trained = training("searched", "Random", "searched", 0, found, memory=0.1, level=0.7, epochs=6)
    put(path, "train-searched", trained)
    (path / "settings.yaml").write_text(f"recipe: dice_{network}\npreset: quick\ndata: {{name: cifar10}}\n")
    return path
