# SPDX-License-Identifier: Apache-2.0
"""How large the output of an op can be, said of sums of squares: ‖w·x‖² ≤ ‖w‖²·‖x‖², whatever the numbers are.

So what a few small arrays are says what large maps between them cannot be, and nobody needs to look at these.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tinytrain.ir.op import Fusable, Op
from tinytrain.ir.types import TensorType


@dataclass(frozen=True)
class Growth:
    """The sum of squares of output 0 is 2^`log2` times the largest of `terms` at most: each is a product, over operands, of sums of squares
    that count as 1 at least."""

    terms: tuple[tuple[int, ...], ...]
    log2: int = 0


SHRINKS = Growth(((0,),))                                 # no output is larger than its element of operand 0


@dataclass(frozen=True)
class Bounded(Op):
    """An op that knows it, if not with all attributes. Of one with an epilogue, it is about what it makes itself."""

    def growth(self, *types: TensorType) -> Growth | None:
        return SHRINKS


def growth_of(op: Op, types: Sequence[TensorType]) -> Growth | None:
    """Of output 0 of a node with inputs of these types, through its epilogue; None where an op on that way does not know it."""
    if not isinstance(op, Bounded):
        return None
    if not isinstance(op, Fusable):
        return op.growth(*types)
    made, (flow, *_) = op.growth(*types[: op.arity]), op.base_infer(*types[: op.arity])
    for step, more in op.epilogue():
        then, operands = step.growth(flow, *(types[i] for i in more)) if isinstance(step, Bounded) else None, (0, *more)
        if made is None or then is None:
            return None
        terms = [
            (*begun, *(operands[i] for i in term if i))
            for term in then.terms for begun in (made.terms if 0 in term else ((),))
        ]
        made, (flow, *_) = Growth(tuple(terms), made.log2 + then.log2), step.infer(flow, *(types[i] for i in more))
    return made


def times(count: int) -> int:
    """log2 of a number, rounded up."""
    return (count - 1).bit_length()
