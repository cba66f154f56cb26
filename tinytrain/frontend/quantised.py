# SPDX-License-Identifier: Apache-2.0
"""Scales and zero points of a QDQ model, and the integers that a handler makes of its stored tensors.

uint8 becomes int8 by subtracting 128 from what is stored and from the zero point. Weights have zero point 0 here: a weight whose
integers minus its zero point fit int8 is stored as that difference, and `Source.offset` brings it back.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from tinytrain.errors import ModelError
from tinytrain.frontend.call import Call, Import
from tinytrain.frontend.layout import Dims, Tensor, plain
from tinytrain.frontend.stored import StoredIntegers
from tinytrain.ir.types import S8, S32, Array, Quant, Role, Source, TensorType, Value
from tinytrain.ops.activation import Clip, Relu
from tinytrain.ops.integer_gradient import LIMITS
from tinytrain.ops.quantize import HIGH, LOW, Quantise, requantised
from tinytrain.ops.sums import INT32_MAX, max_accumulator

UINT8, INT8 = 2, 3                                        # element types of ONNX
INTEGER_TYPES = (UINT8, INT8)
# a bias counts multiples of s_x·s_w as fp32 gives them
SAME_SCALE = 1e-5
# what a bias may lose where int32 has no room for it beside the sum: the output moves by less than that part of its scale
NEGLIGIBLE = 1 / 32


@dataclass(frozen=True)
class Target:
    """What the QuantizeLinear behind an op makes of its result: scale and zero point of the int8, and bounds of an activation between.

    `name` is what ONNX calls these integers.
    """

    scale: float
    zero_point: int
    low: int = LOW
    high: int = HIGH
    name: str = ""

    @property
    def quant(self) -> Quant:
        return Quant((self.scale,), self.zero_point)


def scales(call: Call) -> Array:
    """Operand 1 of QuantizeLinear or DequantizeLinear, checked."""
    scale = call.array(1, "scale").astype(np.float64)
    bad = scale[~((scale > 0) & np.isfinite(scale))] if scale.ndim else scale.reshape(1)[~(np.isfinite(scale) & (scale > 0)).reshape(1)]
    if bad.size:
        raise call.fail(
            f"its scale {call.node.input[1]} holds {bad[0]:g}, expected positive finite numbers",
            "A channel without spread needs a scale all the same: quantise the model again with one that is not zero.",
        )
    if scale.ndim > 1 or call.integer("block_size"):
        blocks = f" for blocks of {size}" if (size := call.integer("block_size")) else ""
        raise call.fail(
            f"its scale has the shape {scale.shape}{blocks}, expected one number, or one per channel", "Quantise without blocks."
        )
    return scale


def one_quant(call: Call, kind: int) -> Quant:
    """Scale and zero point of a computed tensor of element type `kind`, in terms of int8."""
    scale = scales(call)
    if scale.size != 1:
        raise call.fail(
            f"it has {scale.size} scales for a computed tensor, expected one for the whole tensor",
            "Quantise activations per tensor; only weights are quantised per channel.",
        )
    zero = int(call.scalar(2, "zero point", 0))
    return Quant((float(scale.reshape(-1)[0]),), zero - 128 if kind == UINT8 else zero)


def store_integers(call: Call) -> None:
    """DequantizeLinear of an initializer: handlers take the integers, or else the reals that stand for them."""
    array, scale = call.array(0, "operand"), scales(call)
    zero = call.array(2, "zero point") if call.has(2) else np.zeros_like(scale, array.dtype)
    if array.dtype == np.int32 and zero.any():
        raise call.fail(
            f"its zero point {call.node.input[2]} is {int(zero.reshape(-1)[np.flatnonzero(zero)[0]])}, expected 0 for int32",
            "A bias in int32 has no zero point: quantise the model again.",
        )
    stored = StoredIntegers.of(call.node.input[0], array, scale, zero, call.integer("axis", 1))
    if stored.axis is not None and (array.shape[stored.axis] != scale.size or zero.size != scale.size):
        raise call.fail(
            f"it has {scale.size} scales and {zero.size} zero points for {array.shape[stored.axis]} channels on axis {stored.axis}, "
            "expected as many of each",
            "Quantise the model again, with one axis for each weight.",
        )
    if zero.size != scale.size:
        raise call.fail(f"it has {scale.size} scales and {zero.size} zero points, expected as many of each", "Quantise the model again.")
    call.model.integers[call.node.output[0]] = stored
    call.model.arrays[call.node.output[0]] = stored.reals()


def quantised_entry(model: Import, name: str, given: Tensor) -> Tensor:
    """The input of the model. Samples are reals: integers that a DequantizeLinear reads are made of them here."""
    kind = model.element_types[name]
    if kind not in INTEGER_TYPES:
        return given
    reader = next((n for n in model.readers.get(name, ()) if n.op_type == "DequantizeLinear"), None)
    if reader is None:
        raise ModelError(
            f"{model.file}: no DequantizeLinear reads the integers {name}, the input; expected one that says what they stand for.",
            hint="Give the model a float32 input.",
        )
    model.graph.origin = reader.name
    quant = one_quant(Call(model, reader), kind)
    value = model.graph.emit(Quantise(quant.scale[0], quant.zero_point), given.value, name=f"{name}_q")
    return Tensor(value, given.shape, given.order)


def bounds(call: Call) -> tuple[float, float] | None:
    """Those of a Relu or a Clip with constant bounds."""
    if call.op == "Relu":
        return 0.0, math.inf
    if call.op != "Clip" or any(call.has(i) and not call.is_const(i) for i in (1, 2)):
        return None
    return call.scalar(1, "lower bound", -math.inf), call.scalar(2, "upper bound", math.inf)


def stored_number(real: float, scale: float, zero_point: int) -> int:
    """What QuantizeLinear makes of a number, infinity included."""
    return int(np.clip(np.rint(np.clip(real / scale, -1e6, 1e6)) + zero_point, LOW, HIGH))


def clamped_to(x: Tensor, quant: Quant) -> Target | None:
    """The result of quantising x where all that is still to be applied to it is Relu and Clip."""
    low, high = -math.inf, math.inf
    for op in x.then:
        if not isinstance(op, (Relu, Clip)):
            return None
        least, most = (op.low, op.high) if isinstance(op, Clip) else (0.0, math.inf)
        low, high = min(max(low, least), most), min(max(high, least), most)
    (scale,), zero = quant.scale, quant.zero_point
    return Target(scale, zero, stored_number(low, scale, zero), stored_number(high, scale, zero))


def target(call: Call) -> Target | None:
    """Looks ahead: the one QuantizeLinear that reads the result, maybe behind Relu, Clip and what only moves elements."""
    name, low, high = call.node.output[0], -math.inf, math.inf
    while True:
        readers = call.model.readers.get(name, [])
        if len(readers) != 1 or name in call.model.exits:
            return None
        reader = Call(call.model, readers[0])
        if reader.op == "QuantizeLinear" and reader.node.input[0] == name:
            quant = one_quant(reader, call.model.element_types[reader.node.output[0]])
            (scale,), zero = quant.scale, quant.zero_point
            return Target(scale, zero, stored_number(low, scale, zero), stored_number(high, scale, zero), reader.node.output[0])
        if reader.op in ("Relu", "Clip"):
            found = bounds(reader)
            if found is None:
                return None
            low, high = (min(max(v, found[0]), found[1]) for v in (low, high))
        elif reader.op not in ("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Identity"):
            return None
        name = reader.node.output[0]


def requantise(call: Call, x: Value, to: Target, part: str = "q") -> Value:
    """x at the scale of a target, within its bounds; x itself where nothing changes."""
    if x.type.quant == to.quant and (to.low, to.high) == (LOW, HIGH):
        return x
    name = f"{call.node.output[0]}_{part}" if part else call.node.output[0]
    try:
        return requantised(call.model.graph, x, to.scale, to.zero_point, to.low, to.high, name=name)
    except ValueError as error:
        raise call.fail(f"{error}", "Quantise the model again: its scales lie too far apart.") from None


def stored_value(call: Call, key: object, initializer: str, data: Array, quant: Quant, source: Source | None) -> Value:
    """The value of stored integers, the same one for all that read them alike."""
    dtype = S8 if data.dtype == np.int8 else S32
    known = call.model.integer_consts.get(initializer)
    key = (key, quant)
    if known is None:
        value = call.model.graph.value(initializer, TensorType(tuple(data.shape), dtype, quant), Role.CONST, data, source)
        known = call.model.integer_consts[initializer] = (key, value)
    if known[0] != key:
        raise call.fail(
            f"it shares the integers {initializer} with another layer, where they stand for other numbers or lie in another order",
            "Store them once for each layer.",
        )
    return known[1]


def weight(call: Call, index: int, axis: int, *, shape: Dims, perm: Dims, ir: Dims, ir_axis: int) -> Value | None:
    """Operand `index` as int8 with zero point 0 and one scale per output channel, which lie on `axis`; None where it is no such thing."""
    stored = call.model.integers.get(call.node.input[index])
    if stored is None or stored.array.dtype == np.int32:
        return None
    if stored.axis not in (None, axis) and stored.scale.size > 1:
        raise call.fail(
            f"the scales of its weight {stored.initializer} are those of axis {stored.axis}, expected axis {axis}, the output channels",
            "Quantise weights per output channel or per tensor.",
        )
    zero = int(stored.zero_point[0])
    if (stored.zero_point != zero).any():
        return None
    numbers = stored.array.astype(np.int64) - zero
    if numbers.min() < LOW or numbers.max() > HIGH:
        return None
    # of integers minus their zero point; only uint8, or int8 with a zero point, is stored otherwise
    source = Source(stored.initializer, tuple(stored.array.shape), shape, perm, offset=zero, within=_within(call, stored.initializer, zero))
    channels = stored.array.shape[axis]
    quant = Quant(tuple(np.broadcast_to(stored.scale, channels).tolist()), 0, ir_axis)
    data = source.to_ir(stored.array, ir).astype(np.int8)
    call.learns(index)
    return stored_value(call, (shape, perm, ir, zero), stored.initializer, data, quant, source)


def _within(call: Call, initializer: str, zero: int) -> tuple[int, ...]:
    """What a weight is trained within, where the file gives its integers fewer bits than int8 has."""
    least, most = LIMITS[S8]
    low, high = call.model.bounds.get(initializer, (least + zero, most + zero))
    within = (max(low - zero, least), min(high - zero, most))
    return () if within == (least, most) else within


def one_tensor(call: Call, name: str) -> Tensor | None:
    """A stored int8 tensor with one scale as an operand like a computed one; None where it is no such thing. It is not trained."""
    stored = call.model.integers.get(name)
    if stored is None or stored.scale.size != 1 or stored.array.dtype == np.int32:
        return None
    middle = 128 if stored.array.dtype == np.uint8 else 0
    shape = tuple(stored.array.shape)
    data = (stored.array.astype(np.int32) - middle).astype(np.int8).reshape(shape or (1,))
    quant = Quant((float(stored.scale[0]),), int(stored.zero_point[0]) - middle)
    call.model.ledger.read(name, f"an int8 operand of {call.op}")
    return Tensor(stored_value(call, "operand", stored.initializer, data, quant, None), shape, plain(shape))


def bias(call: Call, index: int, acc: Value, given: str = "") -> Value | None:
    """Operand `index` as int32 with the scales of the accumulator `acc` (…, C); None where it is not one number per channel.

    `given` says why it is not trained.
    """
    channels, quant = acc.shape[-1], acc.type.quant
    assert quant is not None
    name = call.node.input[index]
    if not call.is_const(index) or call.array(index, "bias").size not in (1, channels):
        return None
    reals = call.array(index, "bias")
    stored = call.model.integers.get(name)
    shape = tuple(reals.shape)
    per_channel = np.broadcast_to(np.array(quant.scale), channels)
    if stored is not None and stored.array.dtype == np.int32 and np.allclose(stored.scale, per_channel, rtol=SAME_SCALE, atol=0):
        name, data = stored.initializer, np.broadcast_to(stored.array.reshape(-1), channels)
        source = Source(name, shape, shape, plain(shape))
    else:
        source = Source(name, shape, shape, plain(shape), scale=tuple((per_channel if reals.size > 1 else per_channel[:1]).tolist()))
        # a scalar stands for as many numbers as there are channels, once for each scale
        data = np.clip(np.rint(np.broadcast_to(reals.reshape(-1).astype(np.float64), channels) / per_channel), -INT32_MAX, INT32_MAX)
    given = given or ("" if data.size == reals.size else "one number for all channels")
    if given:
        call.model.ledger.purposes[call.node.input[index]] = given
    else:
        call.learns(index)
    kind = Quant(tuple(per_channel.tolist()), 0, 0)
    return stored_value(call, "bias", name, data.astype(np.int32), kind, None if given else source)


def check_sums(call: Call, w: Value, zero_point: int, to: Target | None, b: Value | None, acc_scales: tuple[float, ...]) -> Value | None:
    """Refuse a layer whose sums may leave int32. Returns the bias, less what is beyond int32 in channels where nobody can tell.

    It leaves room for whatever training may make of the weights, where that is possible.
    """
    assert w.data is not None
    assert w.type.quant is not None
    axis = w.type.quant.axis or 0
    for weights in (np.full(w.shape, HIGH), w.data):
        if b is None or b.data is None or to is None:
            break
        room = INT32_MAX - max_accumulator(weights, zero_point, axis)
        numbers = b.data.astype(np.int64)
        fitting = np.clip(numbers, -room, room)
        beyond = np.abs(numbers - fitting)
        if room > 0 and beyond.any() and (beyond * np.array(acc_scales) <= NEGLIGIBLE * to.scale).all():
            b.data[...] = fitting
            call.model.cut_biases.append(call.node.name)
            break
    largest = max_accumulator(w.data, zero_point, axis, b.data if b is not None else None)
    if largest <= INT32_MAX:
        return b
    raise call.fail(
        f"its sums can reach {largest:,}, more than the {INT32_MAX:,} of int32",
        "Quantise the model again: the bias of a channel counts multiples of far too small a scale, or the layer has too many inputs.",
    )
