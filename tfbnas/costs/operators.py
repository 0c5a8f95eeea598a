"""Which operator of the deployed network an operation becomes."""

from __future__ import annotations

from tfbnas.errors import UserError
from tfbnas.lce.operations import Operation


def operator(operation: Operation, *, int8: bool = False) -> str | None:
    """Key of the table for an operation; None where the deployed network has no operator for it.

    Args:
      operation: Of a traced network.
      int8: Whether the network is int8 as a whole; then it has no binary operations.

    Raises:
      UserError: An operation of an int8 network is binary.
    """
    if operation.folded:
        return None
    if int8:
        if operation.binary or operation.reads_bits or operation.kind == "quantize":
            raise UserError(
                "Expected a network in full precision, which int8 quantises as a whole. Received: the binary layer "
                f'{operation.layer!r}; build the network with binarisation="float".'
            )
        return f"int8_{_float_key(operation)}"
    if operation.kind == "convolution" and operation.reads_bits:
        return "packed_convolution" if operation.writes_bits else "binary_convolution"
    if operation.kind == "max_pool" and operation.reads_bits:
        return "packed_max_pool"
    return _float_key(operation)


def _float_key(operation: Operation) -> str:
    # A number that is added or multiplied by is one pass over the elements, as the sum of two tensors is.
    return "add" if operation.kind in ("offset", "scaling") else operation.kind


def calls(operation: Operation) -> int:
    """How often the deployed network runs the operator of an operation.

    A sum of k tensors is k - 1 additions, a scaling is a multiplication and an addition.
    """
    return 2 if operation.kind == "scaling" else max(1, operation.terms - 1)
