# SPDX-License-Identifier: Apache-2.0
"""Handler of ConvTranspose: the convolution whose input gradient it is, from its attributes and its output's shape."""

from __future__ import annotations

from tinytrain.frontend.call import Call, handles
from tinytrain.frontend.layout import Dims, Tensor
from tinytrain.frontend.window import attributes, over_maps, two, weight_shape
from tinytrain.ir.op import Op
from tinytrain.ir.types import Value
from tinytrain.ops.conv_transpose import ConvTranspose2d, DepthwiseConvTranspose2d
from tinytrain.ops.elementwise import Add
from tinytrain.ops.windowed import Pad


@handles("ConvTranspose")
def conv_transpose(call: Call) -> Tensor:
    """W (C, M/g, R, S) becomes C, R, S, M/g; depthwise R, S, C."""
    w_shape = weight_shape(call)
    c, m, r, s = (*w_shape, 1)[:4]
    stride, dilation, pad = _window(call, w_shape[2:])
    group = call.integer("group", 1)
    shape = (*(*call.shape[2:], 1)[:2], call.shape[1])
    depthwise = group == c > 1 and m == 1
    op: Op = (
        DepthwiseConvTranspose2d(stride, pad, dilation, shape=shape) if depthwise
        else ConvTranspose2d(stride, pad, dilation, group, shape=shape)
    )

    def layer(x: Value) -> Value:
        moved = ((2, 3, 1, 0), (r, s, c)) if depthwise else ((0, 2, 3, 1), (c, r, s, m))
        w = call.const(1, "weight", shape=(c, m, r, s), perm=moved[0], ir=moved[1])
        y = call.emit(op, x, w, part="sum" if call.has(2) else "")
        return call.emit(Add(), y, call.const(2, "bias")) if call.has(2) else y

    return over_maps(call, layer)


def _window(call: Call, kernel: Dims) -> tuple[tuple[int, int], tuple[int, int], Pad]:
    """Stride, dilation, and what is cut off on each side of all that the taps reach."""
    stride, dilation, pads = attributes(call, kernel)
    axes, given, made = len(kernel), call.operand_shape(0)[2:], call.shape[2:]
    beyond = call.integers("output_padding", (0,) * axes)
    mode = call.text("auto_pad", "NOTSET")
    begins, ends = [], []
    for i in range(axes):
        reached = (given[i] - 1) * stride[i] + (kernel[i] - 1) * dilation[i] + 1
        both = max(reached + beyond[i] - made[i], 0)
        if mode == "NOTSET" and "output_shape" not in call.attributes:
            begin = pads[i]
        else:
            begin = both // 2 if mode == "SAME_UPPER" else both - both // 2
        if made[i] + begin - reached >= stride[i]:
            raise call.fail(
                f"its output has {made[i]} elements along space axis {i}, of which the weight reaches {reached - begin}, "
                f"expected less than a stride ({stride[i]}) more",
                "Make its output_padding smaller than its stride, or pad the output by a Pad behind it.",
            )
        begins.append(begin)
        ends.append(max(reached - begin - made[i], 0))
    (top, left), (bottom, right) = two(tuple(begins), 0), two(tuple(ends), 0)
    return two(stride, 1), two(dilation, 1), Pad(top, left, bottom, right)
