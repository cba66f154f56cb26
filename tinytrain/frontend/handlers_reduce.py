# SPDX-License-Identifier: Apache-2.0
"""Handlers of reductions over axes, and of what takes elements by their order along one.

The axes may lie anywhere in memory: nothing is moved. A mean, a norm or a sum of squares is a sum with functions of one element before
and behind it.
"""

from __future__ import annotations

from collections.abc import Callable

from tinytrain.frontend.call import Call, handles
from tinytrain.frontend.handlers_shape import along_axis
from tinytrain.frontend.layout import Dims, Tensor
from tinytrain.ir.op import Op
from tinytrain.ops.curve import Abs, Log, Sqrt
from tinytrain.ops.elementwise import SumTo
from tinytrain.ops.power import Power
from tinytrain.ops.reduce import ArgExtreme, Hardmax, LogSumExpTo, MaxTo, MinTo, ProdTo, TopK

# what computes the reduction to a shape, what comes before it and what behind
_REDUCTIONS: dict[str, tuple[tuple[Op, ...], Callable[[Dims], Op], tuple[Op, ...]]] = {
    "ReduceSum": ((), SumTo, ()), "ReduceMax": ((), MaxTo, ()), "ReduceMin": ((), MinTo, ()), "ReduceProd": ((), ProdTo, ()),
    "ReduceLogSumExp": ((), LogSumExpTo, ()), "ReduceL1": ((Abs(),), SumTo, ()), "ReduceL2": ((Power(2.0),), SumTo, (Sqrt(),)),
    "ReduceLogSum": ((), SumTo, (Log(),)), "ReduceSumSquare": ((Power(2.0),), SumTo, ()),
}


@handles(*_REDUCTIONS)
def reduction(call: Call) -> Tensor:
    before, reduce, behind = _REDUCTIONS[call.op]
    x = call.tensor()
    return reduced(call, x, reduced_axes(call, len(x.shape)), before, reduce, behind)


def reduced_axes(call: Call, rank: int) -> set[int]:
    """The axes that a reduction names; without any, all or none as it says: what comes before and behind is then computed all the same."""
    given = tuple(int(a) for a in call.array(1, "axes").reshape(-1)) if call.has(1) else call.integers("axes", ())
    return {a % rank for a in given} or set(range(0 if call.integer("noop_with_empty_axes") else rank))


def reduced(
    call: Call, x: Tensor, over: set[int], before: tuple[Op, ...], reduce: Callable[[Dims], Op], behind: tuple[Op, ...]
) -> Tensor:
    """Each axis stands where it stands in memory, with size 1 where it is reduced."""
    full, small = (tuple(1 if a in over else x.shape[a] for a in x.order) or (1,) for over in (set[int](), over))
    if 0 in full:
        raise call.fail(f"its operand of shape {x.shape} has no elements, expected one at least", "Leave this part of the model out.")
    value = call.view(x, x.order, full)
    for op in before:
        value = call.emit(op, value, part="each")
    if small != full:
        value = call.emit(reduce(small), value, part="reduced" if behind else "")
    for op in behind:
        value = call.emit(op, value)
    return Tensor(value, call.shape, left_order(call, x.order, over))


def left_order(call: Call, order: Dims, over: set[int]) -> Dims:
    """The order of the axes that the result has."""
    rest = [a for a in order if a not in over]
    return order if call.integer("keepdims", 1) else tuple(sorted(rest).index(a) for a in rest)


@handles("ArgMax", "ArgMin")
def arg_extreme(call: Call) -> Tensor:
    x = call.tensor()
    axis = call.integer("axis") % len(x.shape)
    op = ArgExtreme(x.order.index(axis), call.op == "ArgMax", bool(call.integer("select_last_index")))
    index = call.emit(op, call.view(x, x.order, tuple(x.shape[a] for a in x.order)))
    return Tensor(index, call.shape, left_order(call, x.order, {axis}))


@handles("Hardmax")
def hardmax(call: Call) -> Tensor:
    rows, order = along_axis(call)
    return Tensor(call.emit(Hardmax(), rows), call.shape, order)


@handles("TopK")
def top_k(call: Call) -> tuple[Tensor, Tensor]:
    """Always in order: where `sorted` is 0 any order is right."""
    x = call.tensor()
    axis = call.integer("axis", -1) % len(x.shape)
    op = TopK(x.order.index(axis), int(call.scalar(1, "K", 1)), bool(call.integer("largest", 1)))
    y, index = call.emit_all(op, call.view(x, x.order, tuple(x.shape[a] for a in x.order)))
    return Tensor(y, call.output_shape(0), x.order), Tensor(index, call.output_shape(1), x.order)
