# SPDX-License-Identifier: Apache-2.0
"""node → kernel for a board, with the reason why each other candidate was refused."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from tinytrain.errors import ModelError
from tinytrain.ir.graph import Node
from tinytrain.ir.op import Declined, Fusable, Kernel, no
from tinytrain.ir.types import F16


@dataclass(frozen=True)
class Selection:
    """The kernel taken, and (kernel, reason) for each one that was not."""

    kernel: Kernel
    refused: tuple[tuple[Kernel, str], ...]


def select(node: Node, isa: Collection[str], *, spare: bool = True) -> Selection:
    """The last kernel of the op's list that the board's ISA and the node's types allow. Raises ModelError where none is.

    `spare` False: none that wants scratch only where it costs no RAM.
    """
    kernels = node.op.kernels
    no_room = no("there is no memory to spare for its scratch")
    verdicts = [(kernel, no_room if kernel.spare and not spare else _suits(node, kernel, isa)) for kernel in kernels]
    taken = next((kernel for kernel, verdict in reversed(verdicts) if verdict), None)
    refused = tuple(
        (kernel, verdict.why if isinstance(verdict, Declined) else "a faster one was taken")
        for kernel, verdict in verdicts
        if kernel is not taken
    )
    if taken is None:
        whys = "; ".join(why for _, why in refused) or "the op has no kernel"
        message = f"{node.origin} ({node.op.name}): no kernel for {', '.join(str(v.type) for v in node.inputs)}: {whys}."
        raise ModelError(message, hint="Choose another --grad or --board, or change the layer.")
    return Selection(taken, refused)


def _suits(node: Node, kernel: Kernel, isa: Collection[str]) -> bool | Declined:
    if kernel.isa is not None and kernel.isa not in isa:
        return no(f"the board has no {kernel.isa}")
    arity = node.op.arity if isinstance(node.op, Fusable) else len(node.inputs)
    for position, kind in enumerate(node.kinds[:arity]):
        expected = kernel.dtypes[min(position, len(kernel.dtypes) - 1)]
        if kind.dtype is not expected:
            return no(f"input {position} is {kind.dtype}, the kernel takes {expected}")
    halves = kernel.halves(node.op)
    if any(v.type.dtype is F16 and i not in halves for i, v in enumerate(node.inputs[:arity])):
        return no("the kernel reads no fp16")
    if not halves and any(v.type.dtype is F16 for v in node.outputs):
        return no("the kernel writes no fp16")
    return kernel.accepts(node.op, *node.kinds[:arity])
