"""A benchmark as text."""

from __future__ import annotations

from tfbnas.device.benchmark import Benchmark


def table(result: Benchmark) -> str:
    """Figures, operators by share, and warnings; a dash is what the program did not say."""
    measured, facts, settings = result.measurement, result.facts, result.settings
    where = ", ".join(filter(None, [facts.model, facts.machine, f"{facts.cores} cores" if facts.cores else None]))
    rows = [
        ("model", f"{result.model} ({result.model_bytes / 1024:.1f} KiB)"),
        ("target", f"{result.target} ({where})"),
        ("threads", f"{settings['threads']}" + (f", CPU mask {settings['cpu_mask']}" if settings["cpu_mask"] else "")),
        ("governor", ", ".join(facts.governors) or "-"),
        ("temperature", f"{_number(facts.temperature, 0)} -> {_number(result.temperature_after, 0)} °C"),
        ("mean", f"{_number(measured.mean)} ms"),
        ("deviation", f"{_number(measured.deviation)} ms"),
        ("minimum", f"{_number(measured.minimum)} ms"),
        ("median", f"{_number(measured.median)} ms"),
        ("runs", str(measured.count)),
        ("first", f"{_number(measured.first)} ms"),
        ("memory", f"{_number(measured.memory, 1)} MB"),
    ]
    lines = [f"{name:<12} {value}" for name, value in rows]
    if result.profile and result.profile.operators:
        total = sum(operator.milliseconds for operator in result.profile.operators)
        width = max(len(operator.type) for operator in result.profile.operators)
        lines += ["", f"{'operator':<{width}}  {'ms':>9}  {'share':>6}  name"]
        lines += [
            f"{o.type:<{width}}  {o.milliseconds:9.3f}  {o.milliseconds / total if total else 0:6.1%}  {o.name}"
            for o in result.profile.operators
        ]
        lines.append(f"{'sum':<{width}}  {total:9.3f}")
    return "\n".join(lines + [f"warning: {text}" for text in result.warnings])


def _number(value: float | None, digits: int = 3) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
