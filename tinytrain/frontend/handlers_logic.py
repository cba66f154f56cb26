# SPDX-License-Identifier: Apache-2.0
"""Handlers of comparisons and of what is made of their results, which are floats of 0 and 1 (`ops/compare.py`)."""

from __future__ import annotations

import math

import numpy as np

from tinytrain.frontend.call import Call, handles
from tinytrain.frontend.handlers_elementwise import flowing_first, operands, unary
from tinytrain.frontend.layout import Tensor, plain
from tinytrain.frontend.taking import settled
from tinytrain.ir.types import S32, Value
from tinytrain.ops.binary import Max
from tinytrain.ops.compare import MIRRORED, Compare
from tinytrain.ops.curve import Abs
from tinytrain.ops.elementwise import Add, Broadcast, Mul, Scale
from tinytrain.ops.integers import Real, Truncated

RELATIONS = {"Less": "<", "Greater": ">", "LessOrEqual": "<=", "GreaterOrEqual": ">=", "Equal": "==", "Xor": "!="}
LARGEST = float(np.finfo(np.float32).max)


@handles(*RELATIONS)
def relation(call: Call) -> Tensor:
    a, b, order = operands(call)
    how = RELATIONS[call.op]
    if a.type.numel < b.type.numel:
        a, b, how = b, a, MIRRORED[how]
    return Tensor(call.emit(Compare(how), a, b), call.shape, order)


@handles("And", "Or")
def both(call: Call) -> Tensor:
    a, b, order = operands(call)
    return Tensor(call.emit(Mul() if call.op == "And" else Max(), *flowing_first(call, a, b)), call.shape, order)


def compared(call: Call, x: Value, how: str, number: float) -> Value:
    """Where each element stands in a relation to a number."""
    return call.emit(Compare(how), x, call.model.graph.const(f"{call.result}_bound", np.full(1, number, np.float32)))


@handles("Not")
def inverted(call: Call) -> Tensor:
    x = call.tensor()
    return Tensor(compared(call, x.value, "==", 0.0), x.shape, x.order)


@handles("IsNaN")
def is_nan(call: Call) -> Tensor:
    x = call.tensor()
    return Tensor(call.emit(Compare("!="), x.value, x.value), x.shape, x.order)


@handles("IsInf")
def is_inf(call: Call) -> Tensor:
    above, below = (bool(call.integer(f"detect_{sign}", 1)) for sign in ("positive", "negative"))
    x = unary(call, Abs()) if above and below else unary(call, Scale(-1.0)) if below else call.tensor()
    if not above and not below:
        return Tensor(compared(call, x.value, "<", -np.inf), x.shape, x.order)
    return Tensor(compared(call, x.value, ">", LARGEST), x.shape, x.order)


@handles("OneHot")
def one_hot(call: Call) -> Tensor:
    """A number where an index, from the front or from the end, counts to; another one everywhere else."""
    x, depth, values = call.tensor(integers=True), int(call.scalar(1, "depth", 1)), call.array(2, "values").reshape(-1)
    shape, rank = call.shape, len(call.shape)
    axis = call.integer("axis", -1) % rank
    if depth < 1:
        raise call.fail(f"its depth is {depth}, expected 1 or more", "Correct it.")
    whole = x.value if x.value.type.dtype is S32 else call.emit(Truncated(), x.value, part="whole")
    index = call.view(Tensor(call.emit(Real(), whole, part="index"), x.shape, x.order), plain(x.shape), (math.prod(x.shape), 1))
    spread = call.emit(Broadcast((math.prod(x.shape), depth)), index, part="spread")
    count = np.arange(depth, dtype=np.float32)
    front, end = (
        call.emit(Compare("=="), spread, call.model.graph.const(f"{call.result}_{name}", numbers), part=name)
        for name, numbers in (("front", count), ("end", count - depth))
    )
    off, on = (float(v) for v in values)
    hot = call.emit(Scale(on - off), call.emit(Max(), front, end, part="hot"), part="step")
    value = call.emit(Add(), hot, call.model.graph.const(f"{call.result}_off", np.full(1, off, np.float32)))
    return settled(call, value, shape, (*(a for a in range(rank) if a != axis), axis))
