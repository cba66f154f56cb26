# SPDX-License-Identifier: Apache-2.0
"""Handler of Conv."""

from __future__ import annotations

from tinytrain.frontend.call import Call, handles
from tinytrain.frontend.layout import Tensor
from tinytrain.frontend.window import Window, over_maps, weight_shape
from tinytrain.ir.op import Op
from tinytrain.ir.types import Value
from tinytrain.ops.conv import Conv2d
from tinytrain.ops.depthwise import DepthwiseConv2d
from tinytrain.ops.elementwise import Add


@handles("Conv")
def conv(call: Call) -> Tensor:
    """W (K, C/g, R, S) becomes K, R, S, C/g; depthwise R, S, C. A 1-D kernel gets a second space axis of 1."""
    w_shape = weight_shape(call)
    k, c, r, s = (*w_shape, 1)[:4]
    window = Window.of(call, w_shape[2:])
    group = call.integer("group", 1)
    depthwise = group > 1 and c == 1 and k == group
    op: Op = (
        DepthwiseConv2d(window.stride, window.pad, window.dilation) if depthwise
        else Conv2d(window.stride, window.pad, window.dilation, group)
    )

    def layer(x: Value) -> Value:
        moved = ((2, 3, 1, 0), (r, s, k)) if depthwise else ((0, 2, 3, 1), (k, r, s, c))
        w = call.const(1, "weight", shape=(k, c, r, s), perm=moved[0], ir=moved[1])
        y = call.emit(op, x, w, part="sum" if call.has(2) else "")
        return call.emit(Add(), y, call.const(2, "bias")) if call.has(2) else y

    return over_maps(call, layer)
