# SPDX-License-Identifier: Apache-2.0
"""The sliding window that convolutions and pools share: kernel, stride, pads and dilation in two dimensions.

A 1-D window slides over (L, 1): its second dimension is a kernel of 1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tinytrain.frontend.call import Call
from tinytrain.frontend.layout import Dims, Tensor, channels_last
from tinytrain.ir.types import Value
from tinytrain.ops.shape import Concat, Reshape, Slice
from tinytrain.ops.windowed import Pad


def space_axes(call: Call, most: int = 2) -> int:
    """Of operand 0."""
    space = len(call.operand_shape(0)) - 2
    if not 1 <= space <= most:
        expected = "1 or 2" if most == 2 else f"1 to {most}"
        raise call.fail(f"its input has {max(space, 0)} space axes, expected {expected}", "Only pools may have a third one.")
    return space


def weight_shape(call: Call) -> Dims:
    """Of the weight of a Conv: (K, C/g, R, S), or (K, C/g, R); of a ConvTranspose (C, K/g, …)."""
    shape = tuple(call.array(1, "weight").shape)
    if len(shape) != space_axes(call) + 2:
        raise call.fail(
            f"its weight has the shape {shape} for an input of {call.operand_shape(0)}, expected as many axes", "Export the model again."
        )
    return shape


def feature_map(call: Call) -> tuple[Value, Dims]:
    """Operand 0 as (H, W, C), or (L, 1, C) for one space axis, and the order of its ONNX axes."""
    x, space = call.tensor(), space_axes(call)
    if x.shape[0] != 1:
        raise call.fail(f"its input has a batch of {x.shape[0]}, expected 1", "Export the model with a batch of 1.")
    order = channels_last(x.shape)
    return call.view(x, order, (*x.shape[2:], *(1,) * (2 - space), x.shape[1])), order


def attributes(call: Call, kernel: Dims, most: int = 2) -> tuple[Dims, Dims, Dims]:
    """strides, dilations and pads, one for each space axis (pads: two)."""
    axes = space_axes(call, most)
    found = call.integers("strides", (1,) * axes), call.integers("dilations", (1,) * axes), call.integers("pads", (0,) * (2 * axes))
    for what, dims, each in zip(("kernel", "strides", "dilations", "pads"), (kernel, *found), (1, 1, 1, 2), strict=True):
        if len(dims) != each * axes:
            raise call.fail(
                f"its {what} are {dims}, expected {each * axes} numbers for an input of {axes} space axes", "Export the model again."
            )
    return found


def over_maps(call: Call, layer: Callable[[Value], Value], most: int = 2) -> Tensor:
    """What the layer makes of the feature map; several maps, one behind the other, are taken apart and their results joined.

    Of three space axes, where the layer takes so many, the first two come as one.
    """
    x, space = call.tensor(), space_axes(call, most)
    order = channels_last(x.shape)
    rows, columns = (*x.shape[2:], 1)[:2] if space < 3 else (x.shape[2] * x.shape[3], x.shape[4])
    shape = (rows, columns, x.shape[1])
    if x.shape[0] == 1:
        return Tensor(layer(call.view(x, order, shape)), call.shape, order)
    maps = call.view(x, order, (x.shape[0], *shape))
    made = []
    for n in range(x.shape[0]):
        y = layer(call.emit(Reshape(shape), call.emit(Slice(0, n, n + 1), maps, part="map"), part="map"))
        made.append(call.emit(Reshape((1, *y.shape)), y, part="part"))
    return Tensor(call.emit(Concat(0, len(made)), *made), call.shape, channels_last(call.shape))


@dataclass(frozen=True)
class Window:
    """All in (rows, columns)."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    pad: Pad
    dilation: tuple[int, int]
    beyond: tuple[int, int] = (0, 0)                      # of the pad at the end, what only ceil_mode asks for

    @property
    def turned(self) -> Window:
        """With rows and columns in each other's place."""
        pairs = ((b, a) for a, b in (self.kernel, self.stride, self.dilation, self.beyond))
        kernel, stride, dilation, beyond = pairs
        return Window(kernel, stride, Pad(self.pad.left, self.pad.top, self.pad.right, self.pad.bottom), dilation, beyond)

    @classmethod
    def of(cls, call: Call, kernel: Dims, part: slice = slice(0, 2), most: int = 2) -> Window:
        """From the attributes of a Conv or pool, for these of up to `most` space axes. A window that reaches over the end (ceil_mode) gets
        the pad it needs there."""
        sizes = call.tensor().shape[2:]
        axes = space_axes(call, most)
        stride, dilation, pads = attributes(call, kernel, most)
        mode = call.text("auto_pad", "NOTSET")
        reach = [(call.shape[2 + i] - 1) * stride[i] + (kernel[i] - 1) * dilation[i] + 1 for i in range(axes)]
        if mode == "VALID":
            begins = ends = (0,) * axes
        elif mode in ("SAME_UPPER", "SAME_LOWER"):
            if any(reach[i] - sizes[i] < -1 for i in range(axes)):
                raise call.fail(
                    f"its auto_pad is {mode}, and windows of {kernel} at strides of {stride} leave elements out, which some runtimes do on "
                    "both sides and others at the end, expected windows that reach each other", "Write its pads down, and no auto_pad.",
                )
            totals = [max(reach[i] - sizes[i], 0) for i in range(axes)]
            less, more = tuple(t // 2 for t in totals), tuple(t - t // 2 for t in totals)
            begins, ends = (less, more) if mode == "SAME_UPPER" else (more, less)
        else:
            begins, ends = pads[:axes], pads[axes:]
        if any(p < 0 for p in (*begins, *ends)):
            raise call.fail(f"its pads are {(*begins, *ends)}, expected 0 or more", "Crop the input by a Slice before the model.")
        beyond = tuple(max(reach[i] - sizes[i] - begins[i] - ends[i], 0) if call.integer("ceil_mode") else 0 for i in range(axes))
        top, left = two(begins[part], 0)
        bottom, right = two(tuple(end + more for end, more in zip(ends, beyond, strict=True))[part], 0)
        pad = Pad(top, left, bottom, right)
        return cls(two(kernel[part], 1), two(stride[part], 1), pad, two(dilation[part], 1), two(beyond[part], 0))


def two(dims: Dims, second: int) -> tuple[int, int]:
    return (dims[0], dims[1] if len(dims) > 1 else second)
