"""Arguments of Keras layers that tfbnas's layers inherit but do not offer."""

from __future__ import annotations

from typing import Any

from tfbnas.errors import UserError


def drop_fixed(layer: str, arguments: dict[str, Any], fixed: dict[str, tuple[Any, ...]]) -> None:
    """Removes arguments whose value is fixed; ignoring another value in silence would build another network.

    Args:
      layer: Name of the layer's class, for the message.
      arguments: Keyword arguments that the layer was given, also those of a saved configuration.
      fixed: For each such argument the values that mean what the layer does anyway.

    Raises:
      UserError: An argument has another value.
    """
    for name, values in fixed.items():
        value = arguments.pop(name, values[0])
        if value not in values:
            raise UserError(
                f"Expected `{name}` of {layer} to be {values[0]!r}, the only value it works with. Received: "
                f"{name}={value!r}; leave it out."
            )
