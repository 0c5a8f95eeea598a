"""In which form the deployed network carries each real tensor of the trained one.

A binary convolution of the trained network reads the bits [x > t] (t half the learned step), one on LCE reads
sign(u) with sign(0) = +1 and pads with +1. With u = t - x the two agree, ties and padding included. Computing u would
cost an operator per layer; instead every tensor x is *carried* as sign * x + offset, with sign and offset chosen such
that the operators that are there anyway (BatchNormalization in front, Dense behind) produce and consume that form.

Sign: tensors joined by additions and averages must share it, so it is chosen for each such region. Offset: a linear
form over unknowns, one per BatchNormalization (it can add any constant) and one per conversion that cannot be avoided;
every tensor that is binarised asks for offset = t, and the unknowns are fixed one by one in the order of the graph.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from tfbnas.lce.graph import Call, Graph, Key
from tfbnas.lce.standard import passes


class Form:
    """A constant plus a linear combination of unknowns."""

    def __init__(self, constant: float = 0.0, terms: dict[str, float] | None = None):
        self.constant = constant
        self.terms = terms or {}

    @classmethod
    def unknown(cls, name: str) -> Form:
        return cls(0.0, {name: 1.0})

    def __add__(self, other: Form) -> Form:
        terms = Counter(self.terms)
        terms.update(other.terms)
        return Form(self.constant + other.constant, {k: v for k, v in terms.items() if v})

    def __neg__(self) -> Form:
        return Form(-self.constant, {k: -v for k, v in self.terms.items()})

    def value(self, known: dict[str, float]) -> float:
        """The number that this is, unknowns that are missing in `known` taken as 0."""
        return self.constant + sum(v * known.get(k, 0.0) for k, v in self.terms.items())


@dataclass(frozen=True)
class Carried:
    """The form sign * x + offset in which a tensor x is carried; `Carried()` is the tensor itself."""

    sign: int = 1
    offset: float = 0.0


@dataclass
class Plan:
    """For every tensor the form in which it is written and the one in which its readers get it.

    Attributes:
      written: Form that the operator which computes the tensor writes.
      carried: Form for the readers; where it differs from `written`, a conversion stands in between.
    """

    written: dict[Key, Carried] = field(default_factory=dict)
    carried: dict[Key, Carried] = field(default_factory=dict)


class _Regions:
    """Sets of tensors that must share one sign (disjoint-set forest)."""

    def __init__(self):
        self.parent: dict[Key, Key] = {}

    def find(self, key: Key) -> Key:
        while (parent := self.parent.setdefault(key, key)) != key:
            key = parent
        return key

    def join(self, keys: list[Key]) -> None:
        for key in keys[1:]:
            self.parent[self.find(key)] = self.find(keys[0])


def plan(graph: Graph, thresholds: dict[str, float], free: set[str], indifferent: set[str], skip: set[Key]) -> Plan:
    """Chooses sign and offset of every tensor.

    Args:
      graph: The trained network.
      thresholds: Half the step of every call of a LearnedStep, by the name of the call.
      free: Names of calls that can write their output in any form (BatchNormalization).
      indifferent: Names of calls that can read their input in any form (BatchNormalization, Dense).
      skip: Tensors that are handled elsewhere (bits and outputs of binary convolutions).
    """
    keys = [key for key in graph.inputs + [k for c in graph.calls for k in c.outputs] if key not in skip]
    readers, writers = graph.readers(), graph.writers()
    regions = _Regions()
    for call in graph.calls:
        if _flows(call):
            regions.join([k for k in call.inputs + call.outputs if k not in skip])

    def asks(key: Key) -> list[float]:
        return [thresholds[call.name] for call in readers.get(key, []) if call.name in thresholds]

    def is_natural(key: Key) -> bool:
        """Whether somebody reads the tensor who needs it as it is."""
        return key in graph.outputs or any(
            not (passes(call.layer) or call.name in indifferent or call.name in thresholds)
            for call in readers.get(key, [])
        )

    def needs_positive(key: Key) -> bool:
        return is_natural(key) or any(passes(call.layer) == "increasing" for call in readers.get(key, []))

    def flows(key: Key) -> bool:
        """Whether the form of the tensor follows from that of the layer's inputs."""
        return key in writers and _flows(writers[key])

    def is_fixed(key: Key) -> bool:
        return not flows(key) and (key not in writers or writers[key].name not in free)

    cost: Counter = Counter()  # conversions that the sign -1 saves, less those that it needs
    for key in keys:
        cost[regions.find(key)] += bool(asks(key)) - needs_positive(key) - is_fixed(key)
    asked = {regions.find(key) for key in keys if asks(key)}
    sign = {key: -1 if regions.find(key) in asked and cost[regions.find(key)] >= 0 else 1 for key in keys}

    written: dict[Key, tuple[int, Form]] = {}
    carried: dict[Key, tuple[int, Form]] = {}
    known: dict[str, float] = {}
    for key in keys:
        writer = writers.get(key)
        extra: str | None = None
        if flows(key):
            assert writer is not None
            form = Form()
            for source in writer.inputs:
                form = form + carried[source][1]
            written[key] = (sign[key], form)
        elif writer is not None and writer.name in free:
            written[key] = (sign[key], Form.unknown(writer.name))
        elif writer is not None and passes(writer.layer) == "increasing" and writer.inputs[0] not in skip:
            source_sign, source_form = carried[writer.inputs[0]]
            written[key] = (1, source_form if source_sign == 1 else Form())
        else:
            written[key] = (1, Form())
        carried[key] = written[key]
        if sign[key] != written[key][0]:
            extra = f"convert {key}"
            carried[key] = (sign[key], -written[key][1] + Form.unknown(extra))
        wanted = _wanted(sign[key], asks(key), is_natural(key))
        if wanted is not None:
            _settle(carried[key][1], wanted, known, last_resort=extra)
    return Plan(
        {key: Carried(s, form.value(known)) for key, (s, form) in written.items()},
        {key: Carried(s, form.value(known)) for key, (s, form) in carried.items()},
    )


def _flows(call: Call) -> bool:
    """Whether the form of a layer's output follows from that of its inputs, whatever it is."""
    return passes(call.layer) in ("linear", "sum")


def _wanted(sign: int, thresholds: list[float], natural: bool) -> float | None:
    """The offset that serves most readers of a tensor, or `None` if they do not mind."""
    if sign == 1 and natural:
        return 0.0
    if not thresholds:
        return None
    # With sign +1 a conversion follows anyway; offset -t makes it a change of sign alone.
    return sign * -1.0 * Counter(thresholds).most_common(1)[0][0]


def _settle(form: Form, wanted: float, known: dict[str, float], *, last_resort: str | None) -> None:
    """Fixes unknowns such that `form` becomes `wanted`, if one of them is still open.

    All other open unknowns of the form become 0: nothing that is fixed later may change this tensor.
    """
    opened = [name for name in form.terms if name not in known]
    opened.sort(key=lambda name: name == last_resort)
    missing = wanted - form.value(known)
    for index, name in enumerate(opened):
        known[name] = missing / form.terms[name] if index == 0 else 0.0
