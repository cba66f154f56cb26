# SPDX-License-Identifier: Apache-2.0
"""Handlers of ops that move or rename elements, and of softmax, which minds one axis."""

from __future__ import annotations

import math

from tinytrain.frontend.call import Call, handles
from tinytrain.frontend.layout import Dims, Tensor, ir_shape, plain, reshaped_order
from tinytrain.ir.op import Op
from tinytrain.ir.types import Value
from tinytrain.ops.shape import Concat, Pad
from tinytrain.ops.softmax import LogSoftmax, Softmax


@handles("Flatten", "Reshape", "Squeeze", "Unsqueeze")
def reshape(call: Call) -> Tensor:
    """Shape inference has worked out the new shape; data move only if axes are merged that do not lie next to each other."""
    x = call.tensor(integers=True)
    if math.prod(x.shape) != math.prod(call.shape):
        raise call.fail(
            f"it makes {call.shape} of {x.shape}, {math.prod(call.shape):,} elements of {math.prod(x.shape):,}, expected as many",
            "Correct the shape that it is given: a single -1 stands for whatever is left.",
        )
    order = reshaped_order(x.shape, x.order, call.shape)
    if order is not None:
        return Tensor(x.value, call.shape, order)
    return Tensor(call.view(x, plain(x.shape)), call.shape, plain(call.shape))


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
    count = len(call.node.input)
    order = next((call.tensor(i).order for i in range(count) if not call.is_const(i)), plain(call.shape))
    # the batch axis is written down only if it is the one that grows
    axes = order if axis == 0 else tuple(a for a in order if a != 0 or call.shape[0] != 1)
    if count == 1:
        return call.tensor()
    values = [_part(call, i, axes) for i in range(count)]
    return Tensor(call.emit(Concat(axes.index(axis), count), *values), call.shape, order)


def _part(call: Call, index: int, axes: Dims) -> Value:
    shape = call.operand_shape(index)
    order = (*(a for a in range(len(shape)) if a not in axes), *axes)
    ir = tuple(shape[a] for a in axes)
    if call.is_const(index):
        return call.const(index, "operand", perm=order, ir=ir, trained=False)
    return call.view(call.tensor(index), order, ir)


@handles("Pad")
def pad(call: Call) -> Tensor:
    """Constant mode only."""
    return padded(call, call.scalar(2, "value", 0.0))


def padded(call: Call, value: float) -> Tensor:
    """Operand 0 with its padding of `value`."""
    mode = call.text("mode", "constant")
    if mode != "constant":
        raise call.fail(f"its mode is {mode}, expected constant", "Pad the samples before they go into the model.")
    x = call.tensor()
    rank = len(x.shape)
    pads = [int(p) for p in call.array(1, "pads").reshape(-1)]
    axes = [int(a) % rank for a in call.array(3, "axes").reshape(-1)] if call.has(3) else list(range(rank))
    before, after = [0] * rank, [0] * rank
    for i, axis in enumerate(axes):
        before[axis], after[axis] = pads[i], pads[i + len(axes)]
    if any(p < 0 for p in pads):
        raise call.fail(f"its pads are {pads}, expected 0 or more", "Crop the samples before they go into the model.")
    if not any(pads):
        return x
    if before[0] or after[0]:
        raise call.fail("it pads the batch axis", "Leave the first axis alone.")
    kept = [a for a in x.order if a != 0 or x.shape[0] != 1 or rank == 1]
    op = Pad(tuple(before[a] for a in kept), tuple(after[a] for a in kept), value)
    return Tensor(call.emit(op, call.view(x, x.order)), call.shape, x.order)


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
