# SPDX-License-Identifier: Apache-2.0
"""Handlers of ops that move or rename elements, and of softmax, which minds one axis."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from tinytrain.frontend.call import Call, handles
from tinytrain.frontend.layout import Dims, Tensor, ir_shape, plain
from tinytrain.frontend.taking import kept_axes, reshaped, settled, taken
from tinytrain.ir.op import Op
from tinytrain.ir.types import Value
from tinytrain.ops.shape import Concat, Pad
from tinytrain.ops.softmax import LogSoftmax, Softmax

INSIDE = ("reflect", "edge", "wrap")                      # modes of Pad that repeat what lies inside


@handles("Flatten", "Reshape", "Squeeze", "Unsqueeze")
def reshape(call: Call) -> Tensor:
    """Shape inference has worked out the new shape; data move only if axes are merged that do not lie next to each other."""
    x = call.tensor(integers=True)
    if math.prod(x.shape) != math.prod(call.shape):
        raise call.fail(
            f"it makes {call.shape} of {x.shape}, {math.prod(call.shape):,} elements of {math.prod(x.shape):,}, expected as many",
            "Correct the shape that it is given: a single -1 stands for whatever is left.",
        )
    return reshaped(call, x, call.shape)


@handles("Transpose")
def transpose(call: Call) -> Tensor:
    """Output axis j is input axis perm[j]: only the order of the axes changes."""
    x = call.tensor(integers=True)
    perm = call.integers("perm", tuple(reversed(plain(x.shape))))
    if sorted(perm) != list(plain(x.shape)):
        raise call.fail(f"its perm is {perm} for {len(x.shape)} axes, expected each of them once", "Export the model again.")
    return Tensor(x.value, call.shape, tuple(perm.index(a) for a in x.order))


@handles("Concat")
def concat(call: Call) -> Tensor:
    axis = call.integer("axis") % len(call.shape)
    parts = [i for i in range(len(call.node.input)) if 0 not in call.operand_shape(i)]
    order = next((call.tensor(i).order for i in parts if not call.is_const(i)), plain(call.shape))
    # the batch axis is written down only if it is the one that grows
    axes = order if axis == 0 else tuple(a for a in order if a != 0 or call.shape[0] != 1)
    if len(parts) == 1:
        return call.tensor(parts[0])
    values = [_part(call, i, axes) for i in parts]
    return Tensor(call.emit(Concat(axes.index(axis), len(parts)), *values), call.shape, order)


def _part(call: Call, index: int, axes: Dims) -> Value:
    shape = call.operand_shape(index)
    order = (*(a for a in range(len(shape)) if a not in axes), *axes)
    ir = tuple(shape[a] for a in axes)
    if call.is_const(index):
        return call.const(index, "operand", perm=order, ir=ir, trained=False)
    return call.view(call.tensor(index), order, ir)


@handles("Pad")
def pad(call: Call) -> Tensor:
    return padded(call, call.scalar(2, "value", 0.0))


def padded(call: Call, value: float) -> Tensor:
    """Operand 0 with its padding: of `value`, or of what lies inside."""
    mode = call.text("mode", "constant")
    if mode not in ("constant", *INSIDE):
        raise call.fail(f"its mode is {mode}, expected constant or {', '.join(INSIDE)}", "Use one of these.")
    x = call.tensor()
    rank = len(x.shape)
    pads = [int(p) for p in call.array(1, "pads").reshape(-1)]
    axes = [int(a) % rank for a in call.array(3, "axes").reshape(-1)] if call.has(3) else list(range(rank))
    return pad_axes(call, x, {a: (pads[i], pads[i + len(axes)]) for i, a in enumerate(axes)}, mode, value)


def pad_axes(call: Call, x: Tensor, pads: Mapping[int, Dims], mode: str, value: float) -> Tensor:
    """By axis (before, behind); where these are below 0, so many are cut off."""
    for axis, ends in pads.items():
        left, right = (min(n, 0) for n in ends)
        rows = np.arange(x.shape[axis])[-left : x.shape[axis] + right]
        if rows.size == 0 or (mode == "reflect" and rows.size == 1 and max(ends) > 0):
            raise call.fail(f"its pads {tuple(ends)} leave nothing of axis {axis}, or reflect a single element", "Correct the pads.")
        more = tuple(max(n, 0) for n in ends)
        x = taken(call, x, axis, np.pad(rows, more, mode) if mode in INSIDE else rows)  # type: ignore[call-overload]
    if mode in INSIDE or not any(n > 0 for ends in pads.values() for n in ends):
        return x
    before, after = ([max(pads.get(a, (0, 0))[end], 0) for a in plain(x.shape)] for end in (0, 1))
    kept = kept_axes(x, *(a for a in pads if before[a] or after[a]))
    value_of = call.view(x, x.order, tuple(x.shape[a] for a in kept))
    made = call.emit(Pad(tuple(before[a] for a in kept), tuple(after[a] for a in kept), value), value_of)
    return settled(call, made, tuple(b + n + a for b, n, a in zip(before, x.shape, after, strict=True)), x.order)


@handles("Softmax")
def softmax(call: Call) -> Tensor:
    return _along_last(call, Softmax())


@handles("LogSoftmax")
def log_softmax(call: Call) -> Tensor:
    return _along_last(call, LogSoftmax())


def _along_last(call: Call, op: Op) -> Tensor:
    rows, order = along_axis(call)
    return Tensor(call.emit(op, rows), call.shape, order)


def along_axis(call: Call) -> tuple[Value, Dims]:
    """Operand 0 with the axis of the node last, and the order of all its axes."""
    x = call.tensor()
    axis = call.integer("axis", -1) % len(x.shape)
    order = (*(a for a in x.order if a != axis), axis)
    # along the batch axis, which is not written down otherwise, it works on single elements
    shape = ir_shape(x.shape, order) if axis else tuple(x.shape[a] for a in order)
    return call.view(x, order, shape), order
