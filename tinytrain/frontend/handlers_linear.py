# SPDX-License-Identifier: Apache-2.0
"""Handlers of layers that keep the shape of a map: Conv, BatchNormalization."""

from __future__ import annotations

import numpy as np

from tinytrain.frontend.call import Call, handles
from tinytrain.frontend.layout import Tensor, ir_shape
from tinytrain.frontend.window import Window, over_maps, weight_shape
from tinytrain.ir.op import Op
from tinytrain.ir.types import Value
from tinytrain.ops.conv import Conv2d
from tinytrain.ops.depthwise import DepthwiseConv2d
from tinytrain.ops.elementwise import Add
from tinytrain.ops.norm import BatchNorm


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


@handles("BatchNormalization")
def batch_normalization(call: Call) -> Tensor:
    """γ·(x − μ)/√(σ² + ε) + β with frozen statistics; what could be folded was folded before."""
    if call.integer("training_mode"):
        raise call.fail("it is in training mode, expected the form for inference", "Export the model in evaluation mode (model.eval()).")
    x = call.tensor()
    order = (*(a for a in x.order if a != 1), 1)
    epsilon = call.number("epsilon", 1e-5)
    var = call.array(4, "variance").astype(np.float64) + epsilon
    if not (var > 0).all():
        raise call.fail("its variance plus epsilon is not positive", "The stored statistics are damaged: use another checkpoint.")
    gamma, beta = call.const(1, "scale"), call.const(2, "offset")
    mean = call.const(3, "mean", trained=False)
    inv_std = call.model.graph.const(f"{call.node.input[4]}_inv_std", (1 / np.sqrt(var)).astype(np.float32))
    y = call.emit(BatchNorm(), call.view(x, order, ir_shape(x.shape, order)), gamma, beta, mean, inv_std)
    return Tensor(y, call.shape, order)
