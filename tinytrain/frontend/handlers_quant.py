# SPDX-License-Identifier: Apache-2.0
"""Handlers of QuantizeLinear and DequantizeLinear, and of what integers pass through as they are or by a clamp."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from tinytrain.frontend.call import Call, Made, handlers, handles, on_integers
from tinytrain.frontend.handlers_shape import concat as joined
from tinytrain.frontend.handlers_shape import padded
from tinytrain.frontend.layout import Tensor, reshaped_order
from tinytrain.frontend.quantised import INTEGER_TYPES, UINT8, bounds, clamped_to, one_quant, requantise, stored_number, target
from tinytrain.ir.types import S8
from tinytrain.ops.activation import Clip, Relu
from tinytrain.ops.quantize import Quantise


@handles("QuantizeLinear")
def quantize_linear(call: Call) -> Tensor:
    """Of fp32."""
    x, quant = call.tensor(), one_quant(call, call.model.element_types[call.node.output[0]])
    return Tensor(call.emit(Quantise(quant.scale[0], quant.zero_point), x.value), x.shape, x.order)


@on_integers("QuantizeLinear")
def quantize_integers(call: Call) -> Tensor | None:
    """Of an accumulator, or of int8 at another scale. An activation between becomes the bounds."""
    x, quant = call.tensor(), one_quant(call, call.model.element_types[call.node.output[0]])
    if x.settled:
        return Tensor(x.value, x.shape, x.order)
    to = clamped_to(x, quant)
    return None if to is None else Tensor(requantise(call, x.value, to, part=""), x.shape, x.order)


@on_integers("DequantizeLinear")
def dequantize_linear(call: Call) -> Tensor:
    """The same integers, now taken as the reals that they stand for."""
    x = call.tensor()
    quant = one_quant(call, call.model.element_types[call.node.input[0]])
    have = x.value.type.quant
    assert have is not None
    if quant.zero_point != have.zero_point or not np.isclose(quant.scale[0], have.scale[0], rtol=1e-6, atol=0):
        raise call.fail(
            f"it takes its integers at scale {quant.scale[0]:g} and zero point {quant.zero_point}, they were quantised at scale "
            f"{have.scale[0]:g} and zero point {have.zero_point} (as int8)",
            "Use one scale and zero point from QuantizeLinear to DequantizeLinear.",
        )
    return x


@on_integers(
    "Identity", "Dropout", "Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze",
    "Compress", "DepthToSpace", "Expand", "Gather", "GatherElements", "GatherND", "Resize", "ReverseSequence", "Slice", "SpaceToDepth",
    "Split", "Tile",
)
def moved(call: Call) -> Made | None:
    """What only moves elements minds no scale, unless there is one per channel and the channels would move."""
    if call.node.input[0] not in call.model.tensors or (call.op == "Resize" and call.text("mode", "nearest") != "nearest"):
        return None
    x = call.tensor()
    if call.op == "Dropout" and call.model.dropout_seed is not None:
        return None
    keeps = call.op in ("Identity", "Dropout", "Transpose")
    views = call.op in ("Reshape", "Flatten", "Squeeze", "Unsqueeze") and reshaped_order(x.shape, x.order, call.shape) is not None
    quant = x.value.type.quant
    if quant is not None and quant.axis is not None and not keeps and not views:
        to = target(call)
        if to is None or x.then:
            return None
        x = dataclasses.replace(x, value=requantise(call, x.value, to, part="integers"), settled=True)
        call = Call(call.model, call.node, raw=True, placed={call.node.input[0]: x})
    made = handlers()[call.op](call)
    outputs = tuple(t and dataclasses.replace(t, then=x.then, settled=x.settled) for t in (made if isinstance(made, tuple) else (made,)))
    return outputs if isinstance(made, tuple) else outputs[0]


@on_integers("Relu", "Clip")
def clamp(call: Call) -> Tensor | None:
    """Left to the QuantizeLinear behind it. Behind a QuantizeLinear its bounds are integers themselves."""
    x, found = call.tensor(), bounds(call)
    if x.settled:
        return x
    kind, quant = call.model.element_types[call.node.input[0]], x.value.type.quant
    if found is not None and kind in INTEGER_TYPES and quant is not None:
        zero_point = quant.zero_point + (128 if kind == UINT8 else 0)
        found = (found[0] - zero_point) * quant.scale[0], (found[1] - zero_point) * quant.scale[0]
    if found is None or found[0] > found[1]:
        return None
    op = Relu() if found[0] == 0 and found[1] >= np.finfo(np.float32).max else Clip(*found)
    return dataclasses.replace(x, then=(*x.then, op))


@on_integers("MaxPool", "GlobalMaxPool", "ReduceMax", "ReduceMin", "ArgMax", "ArgMin")
def extreme(call: Call) -> Made | None:
    """The largest integer is that of the largest real."""
    x = call.tensor()
    return None if x.value.type.dtype is not S8 or x.then else handlers()[call.op](call)


@on_integers("Pad")
def pad(call: Call) -> Tensor | None:
    """The padding is a number of the same scale, by default the zero point; in front of a DequantizeLinear it is an integer itself."""
    x = call.tensor()
    kind = call.model.element_types[call.node.input[0]]
    quant = x.value.type.quant
    assert quant is not None
    if x.value.type.dtype is not S8 or x.then:
        return None
    value = call.scalar(2, "value", 0.0)
    if kind == 1:
        (scale,), zero = quant.scale, quant.zero_point
        number = stored_number(value, scale, zero)
        if not math.isclose((number - zero) * scale, value, rel_tol=1e-6) and not (value == -math.inf and _no_maximum(call)):
            return None
    else:
        number = int(value) - (128 if kind == UINT8 else 0)
    return padded(call, number)


def _no_maximum(call: Call) -> bool:
    """Whether only maxima read the padding, each of which sees something else too: the least integer then is as good as -inf."""
    name, readers = call.node.output[0], [Call(call.model, node) for node in call.model.readers.get(call.node.output[0], ())]
    widest = max(int(p) for p in call.array(1, "pads").reshape(-1))
    return name not in call.model.exits and all(
        reader.op == "MaxPool" and reader.text("auto_pad", "NOTSET") == "NOTSET" and not reader.integer("ceil_mode")
        and max(reader.integers("dilations", (1,))) == 1
        and widest + max(reader.integers("pads", (0,))) < min(reader.integers("kernel_shape", (0,)))
        for reader in readers
    )


@on_integers("Concat")
def concat(call: Call) -> Tensor | None:
    """All parts at the scale of the result, or at their own where that is the same for all."""
    held = [call.model.tensors.get(name) for name in call.node.input]
    parts = [t for t in held if t is not None and t.value.type.dtype is S8 and not t.then]
    if len(parts) != len(held):
        return None
    quants = {t.value.type.quant for t in parts}
    found = target(call)
    if len(quants) == 1:
        return joined(call)
    if found is None:
        return None
    placed = {
        name: dataclasses.replace(t, value=requantise(call, t.value, found, part=f"part{i}"))
        for i, (name, t) in enumerate(zip(call.node.input, parts, strict=True))
    }
    made = joined(Call(call.model, call.node, raw=True, placed=placed, result=found.name))
    return dataclasses.replace(made, settled=True)


