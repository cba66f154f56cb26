# SPDX-License-Identifier: Apache-2.0
"""The two common rules by which an op makes its integer form: `as_integer = sums` or `as_integer = moves`."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from tinytrain.ir.integer import IntegerForms, Operand, Scaled
from tinytrain.ir.op import Declined, Op, no
from tinytrain.ir.types import Value
from tinytrain.ops.sums import INT32_MAX


def sums(op: Op, g: IntegerForms, inputs: Sequence[Operand], outputs: Sequence[Value]) -> tuple[Operand, ...] | Declined:
    """Of an op that is linear in input 0 and adds up products: eight bits go in, int32 comes out, with the same exponent."""
    dy, *others = inputs
    if not isinstance(dy, Scaled) or any(isinstance(v, Scaled) for v in others):
        return no(f"{op.name} is linear in its first operand only")
    kinds = [v.type for v in (dy.mantissa, *others) if isinstance(v, Value)]
    terms = max(op.cost(*kinds).macs, kinds[0].numel) // outputs[0].type.numel
    if terms * 127 * 255 > INT32_MAX:
        return no(f"{terms:,} products of int8 could overflow an int32 sum")
    short = g.short(dy)
    made = g.emit(op, short.mantissa, *(v for v in others if isinstance(v, Value)), name=outputs[0].name)
    return (dataclasses.replace(short, mantissa=made),)


def moves(op: Op, g: IntegerForms, inputs: Sequence[Operand], outputs: Sequence[Value]) -> tuple[Operand, ...] | Declined:
    """Of an op that only moves, repeats or leaves out elements of input 0."""
    x, *others = inputs
    if not isinstance(x, Scaled) or any(isinstance(v, Scaled) for v in others):
        return no(f"{op.name} moves its first operand only")
    if x.factor.ndim:
        x = g.short(x)                                    # channels need not stay where they are
    made = g.emit(op, x.mantissa, *(v for v in others if isinstance(v, Value)), name=outputs[0].name)
    return (dataclasses.replace(x, mantissa=made),)
