# SPDX-License-Identifier: Apache-2.0
"""Handlers of layers with weights: Conv, Gemm, MatMul, BatchNormalization."""

from __future__ import annotations

import numpy as np

from tinytrain.frontend.call import Call, handles
from tinytrain.frontend.layout import Tensor, ir_shape
from tinytrain.frontend.window import Window, feature_map, weight_shape
from tinytrain.ir.types import Value
from tinytrain.ops.conv import Conv2d
from tinytrain.ops.dense import Dense
from tinytrain.ops.depthwise import DepthwiseConv2d
from tinytrain.ops.elementwise import Add, Scale
from tinytrain.ops.norm import BatchNorm


@handles("Conv")
def conv(call: Call) -> Tensor:
    """W (K, C/g, R, S) becomes K, R, S, C/g; depthwise R, S, C. A 1-D kernel gets a second space axis of 1."""
    x, order = feature_map(call)
    w_shape = weight_shape(call)
    k, c, r, s = (*w_shape, 1)[:4]
    window = Window.of(call, w_shape[2:])
    group = call.integer("group", 1)
    if group > 1 and c == 1 and k == group:
        w = call.const(1, "weight", shape=(k, c, r, s), perm=(2, 3, 1, 0), ir=(r, s, k))
        y = call.emit(DepthwiseConv2d(window.stride, window.pad, window.dilation), x, w, part="sum" if call.has(2) else "")
    else:
        w = call.const(1, "weight", shape=(k, c, r, s), perm=(0, 2, 3, 1))
        y = call.emit(Conv2d(window.stride, window.pad, window.dilation, group), x, w, part="sum" if call.has(2) else "")
    if call.has(2):
        y = call.emit(Add(), y, call.const(2, "bias"))
    return Tensor(y, call.shape, order)


@handles("Gemm")
def gemm(call: Call) -> Tensor:
    """alpha · A·B + beta · C with constant B and C; B is kept as (N, K)."""
    a = call.tensor(0)
    if call.integer("transA"):
        a = Tensor(a.value, (a.shape[1], a.shape[0]), tuple(1 - axis for axis in a.order))
    w = call.const(1, "matrix B", perm=(0, 1) if call.integer("transB") else (1, 0))
    alpha, beta = call.number("alpha", 1.0), call.number("beta", 1.0)
    biased = call.has(2) and beta != 0
    y = call.emit(Dense(), call.view(a, (0, 1)), w, part="sum" if biased or alpha != 1 else "")
    if alpha != 1:
        y = call.emit(Scale(alpha), y, part="scaled" if biased else "")
    if biased:
        y = call.emit(Add(), y, _gemm_bias(call, y, beta))
    return Tensor(y, call.shape, (0, 1))


def _gemm_bias(call: Call, y: Value, beta: float) -> Value:
    """C as one per column, a single element, or one per element; a beta stays outside so that C remains what is trained."""
    shape = tuple(call.array(2, "bias C").shape)
    full = (1,) * (2 - len(shape)) + shape
    m, n = call.shape
    if full == (m, n) and m > 1:
        bias = call.const(2, "bias C", ir=y.shape)
    elif full[0] == 1:
        bias = call.const(2, "bias C", ir=(full[1],))
    else:
        raise call.fail(
            f"its bias C has the shape {shape} for an output of {call.shape}, expected one value per column", "Use a bias of shape (N,)."
        )
    return bias if beta == 1 else call.emit(Scale(beta), bias, part="bias")


@handles("MatMul")
def matmul(call: Call) -> Tensor:
    """x (…, K) by a constant (K, N)."""
    if call.is_const(0) or not call.is_const(1):
        raise call.fail(
            "expected a computed left and a constant right operand",
            "Transpose the product, or replace it by a linear layer; attention is not supported.",
        )
    x = call.tensor(0)
    w_shape = tuple(call.array(1, "right operand").shape)
    if any(d != 1 for d in w_shape[:-2]) or len(w_shape) > max(2, len(x.shape)):
        raise call.fail(f"its constant has the shape {w_shape}, expected (K, N)", "Use one matrix for the whole batch.")
    n = w_shape[-1] if len(w_shape) > 1 else 1
    w = call.const(1, "right operand", shape=(x.shape[-1], n), perm=(1, 0))
    last = len(x.shape) - 1
    order = (*(a for a in x.order if a != last), last)
    y = call.emit(Dense(), call.view(x, order), w)
    return Tensor(y, call.shape, order if len(w_shape) > 1 else order[:-1])


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
