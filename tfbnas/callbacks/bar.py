"""One progress bar over a whole stage; plain lines where the output is no terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from time import monotonic
from typing import Any, TextIO

from tqdm import tqdm

Describe = Callable[[Mapping[str, float]], Mapping[str, str | None]]

READ_SECONDS = 0.2
LINE_SECONDS = 30.0
_FORMAT = "{desc}: {percentage:3.0f}%|{bar:12}| {n_fmt}/{total_fmt} [{elapsed}, {remaining} left{postfix}]"


class StageBar:
    """Shows how far a stage is, its loss, accuracy and further values, and the time left.

    On a terminal one bar is redrawn. Elsewhere (a file, a pipe, CI) a line is printed at the end of an epoch or
    round and every 30 seconds.

    Args:
      description: The stage, for instance "search".
      total: Steps of the whole stage; `None` while unknown (set `total` later).
      initial: Steps that earlier processes did. Default: 0.
      describe: Translates numbers into further texts, for instance `{"memory": "0.11 of 0.12 MiB"}`. It may replace
        a number of the same name, or leave it out with `None`. Called only when something is shown.
      stream: Where it is written. Default: standard error.
    """

    def __init__(
        self,
        description: str,
        total: int | None,
        *,
        initial: int = 0,
        describe: Describe | None = None,
        stream: TextIO | None = None,
    ):
        self.description = description
        self.total = total
        self._initial = self._step = initial
        self._describe = describe
        self._stream = stream or sys.stderr
        self._begin = self._shown = monotonic()
        self._bar: tqdm | None = None
        if self._stream.isatty():
            self._bar = tqdm(
                desc=description,
                total=total,
                initial=initial,
                file=self._stream,
                unit="step",
                dynamic_ncols=True,
                bar_format=_FORMAT,
            )

    def update(self, step: int, logs: Mapping[str, Any] | None = None) -> None:
        """Says that `step` steps of the stage are done. The values of `logs` are read at most 5 times a second.

        Args:
          step: Steps done since the beginning of the stage, over all processes.
          logs: Scalars, also as tensors.
        """
        self._step = step
        if monotonic() - self._shown >= (READ_SECONDS if self._bar is not None else LINE_SECONDS):
            self._show(logs)

    def end_epoch(self, step: int, logs: Mapping[str, Any] | None = None) -> None:
        """Like `update` at the end of an epoch or round, where something is always shown."""
        self._step = step
        self._show(logs)

    def _show(self, logs: Mapping[str, Any] | None) -> None:
        texts = self._texts(logs or {})
        if self._bar is not None:
            self._bar.total = self.total
            self._bar.set_postfix_str(", ".join(texts), refresh=False)
            self._bar.update(self._step - self._bar.n)
            self._bar.refresh()
        else:
            count = f"{self._step}/{self.total} steps" if self.total else f"{self._step} steps"
            left = self._left()
            print(", ".join([f"{self.description}: {count}", *texts, *left]), file=self._stream, flush=True)
        self._shown = monotonic()

    def _texts(self, logs: Mapping[str, Any]) -> list[str]:
        numbers = {name: float(value) for name, value in logs.items()}
        texts: dict[str, str | None] = {name: _number(name, value) for name, value in numbers.items()}
        if self._describe is not None:
            texts.update(self._describe(numbers))
        return [f"{_words(name)} {text}" for name, text in texts.items() if text is not None]

    def _left(self) -> list[str]:
        done = self._step - self._initial
        if not self.total or done <= 0:
            return []
        return [f"{tqdm.format_interval((monotonic() - self._begin) / done * (self.total - self._step))} left"]

    def close(self) -> None:
        """Leaves the bar as it stands and goes to the next line."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def _words(name: str) -> str:
    return name.replace("val_", "validation ").replace("_", " ")


def _number(name: str, value: float) -> str:
    return f"{100 * value:.2f}%" if name.endswith("accuracy") else f"{value:.4g}"
