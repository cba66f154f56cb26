# SPDX-License-Identifier: Apache-2.0
"""Handlers of normalisation: one op over axes that may lie anywhere in memory; a scale is a product behind it, an offset a sum.

What is one per channel, per row or per element of the map in memory is read as it is; else it is repeated to the whole.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from tinytrain.frontend.call import Call, handles
from tinytrain.frontend.layout import Dims, Tensor
from tinytrain.ir.op import Op, is_row_operand
from tinytrain.ir.types import TensorType, Value
from tinytrain.ops.activation import Clip
from tinytrain.ops.binary import Div
from tinytrain.ops.curve import Abs
from tinytrain.ops.elementwise import Add, Broadcast, Mul, Scale, SumTo
from tinytrain.ops.normalise import Normalise

_TINY = 1e-37                                             # a divisor that keeps zeros zeros, and changes nothing else


def _memory(tensor: Tensor, shape: Dims) -> Dims:
    """A shape of the tensor's axes in memory order, without the batch of one."""
    return tuple(shape[a] for a in tensor.order if a != 0 or tensor.shape[0] != 1) or (1,)


def _small(tensor: Tensor, over: set[int]) -> Dims:
    return _memory(tensor, tuple(1 if a in over else n for a, n in enumerate(tensor.shape)))


def normalised(call: Call, x: Tensor, over: set[int], epsilon: float, centred: bool = True) -> tuple[Tensor, Sequence[Value]]:
    """x normalised over these of its axes, and the statistics."""
    value = call.view(x, x.order, _memory(x, x.shape))
    y, *statistics = call.emit_all(Normalise(_small(x, over), epsilon, centred), value, part="normalised")
    return Tensor(y, x.shape, x.order), statistics


def _with(call: Call, op: Op, y: Tensor, index: int, what: str, shape: Dims) -> Tensor:
    """y ∘ the stored operand `index`, if there is one, as if that were of `shape`: as many axes as y, 1 where it is repeated."""
    if not call.has(index):
        return y
    full, small = _memory(y, y.shape), _memory(y, shape)
    ir = small[-1:] if math.prod(small) == small[-1] else small
    operand = call.const(index, what, shape=shape, perm=y.order, ir=ir)
    if ir not in (full, full[-1:]) and operand.type.numel > 1 and not is_row_operand(operand.type, TensorType(full)):
        operand = call.emit(Broadcast(full), operand, part="spread")
    return Tensor(call.emit(op, call.view(y, y.order, full), operand), y.shape, y.order)


def _behind(shape: Dims, rank: int) -> Dims:
    """As broadcasting takes it: with axes of size 1 in front."""
    return (1,) * (rank - len(shape)) + shape


def affine(call: Call, y: Tensor, shape: Dims) -> Tensor:
    return _with(call, Add(), _with(call, Mul(), y, 1, "scale", shape), 2, "offset", shape)


@handles("LayerNormalization", "RMSNormalization")
def layer_normalization(call: Call) -> tuple[Tensor | None, ...]:
    """Over all axes from one on; its statistics keep these with size 1."""
    x, centred = call.tensor(), call.op == "LayerNormalization"
    rank = len(x.shape)
    over = set(range(call.integer("axis", -1) % rank, rank))
    y, statistics = normalised(call, x, over, call.number("epsilon", 1e-5), centred)
    for index, op, what in ((1, Mul(), "scale"), (2, Add(), "offset")):
        if call.has(index):
            y = _with(call, op, y, index, what, _behind(call.operand_shape(index), rank))
    kept = tuple(1 if a in over else n for a, n in enumerate(x.shape))
    return (y, *(Tensor(value, kept, x.order) for value in statistics)) if centred else (y,)


@handles("InstanceNormalization")
def instance_normalization(call: Call) -> Tensor:
    x = call.tensor()
    y, _ = normalised(call, x, set(range(2, len(x.shape))), call.number("epsilon", 1e-5))
    return y if _of_groups(call) else affine(call, y, tuple(n if a == 1 else 1 for a, n in enumerate(x.shape)))


def _of_groups(call: Call) -> bool:
    """Whether this is how exporters write a GroupNormalization: behind a Reshape to groups, its scale ones and its offset zeros; what is
    learned follows as a product and a sum.
    """
    reshaped = any(call.node.input[0] in node.output for node in call.model.onnx_graph.node if node.op_type == "Reshape")
    return reshaped and bool((call.array(1, "scale of groups") == 1).all() and (call.array(2, "offset of groups") == 0).all())


@handles("GroupNormalization")
def group_normalization(call: Call) -> Tensor:
    """An axis of groups and one of their channels; scale and offset are one per channel."""
    x, groups = call.tensor(), call.integer("num_groups", 1)
    batch, channels, *space = x.shape
    if groups < 1 or channels % groups:
        raise call.fail(f"num_groups is {groups} for {channels} channels, expected a divisor", "Check its attributes.")
    if call.operand_shape(1) != (channels,) or call.operand_shape(2) != (channels,):
        raise call.fail(f"its scale has the shape {call.operand_shape(1)}, expected one number per channel", "Export it with opset 21.")
    order = tuple(b for a in x.order for b in ((1, 2) if a == 1 else (a + 1,) if a > 1 else (a,)))
    grouped = Tensor(x.value, (batch, groups, channels // groups, *space), order)
    y, _ = normalised(call, grouped, set(range(2, len(order))), call.number("epsilon", 1e-5))
    return affine(call, Tensor(y.value, x.shape, x.order), (1, channels, *(1 for _ in space)))


@handles("MeanVarianceNormalization")
def mean_variance_normalization(call: Call) -> Tensor:
    x = call.tensor()
    over = {a % len(x.shape) for a in call.integers("axes", (0, 2, 3))}
    return normalised(call, x, over, 1e-18)[0]


@handles("LpNormalization")
def lp_normalization(call: Call) -> Tensor:
    """Over one axis: by the root of the sum of squares, or by the sum of absolute values."""
    x, axis, p = call.tensor(), call.integer("axis", -1), call.integer("p", 2)
    over = {axis % len(x.shape)}
    if p not in (1, 2):
        raise call.fail(f"its p is {p}, expected 1 or 2", "Write it as powers, a sum and a quotient.")
    if p == 2:
        y, _ = normalised(call, x, over, _TINY, centred=False)
        return Tensor(call.emit(Scale(x.shape[axis] ** -0.5), y.value), x.shape, x.order)
    full = _memory(x, x.shape)
    value = call.view(x, x.order, full)
    total = call.emit(SumTo(_small(x, over)), call.emit(Abs(), value, part="sizes"), part="sum")
    divisor = call.emit(Broadcast(full), call.emit(Clip(_TINY, math.inf), total, part="divisor"), part="spread")
    return Tensor(call.emit(Div(), value, divisor), x.shape, x.order)
