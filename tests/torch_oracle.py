# SPDX-License-Identifier: Apache-2.0
"""Gradients of an ONNX model in float64 by PyTorch: each ONNX op as PyTorch has it, autograd behind. It shares nothing with tinytrain."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper
from torch import Tensor, nn
from torch.nn import functional

Attributes = dict[str, Any]
Given = Tensor | None
OPS: dict[str, Callable[..., Any]] = {}
LOSSES = {
    "mse": functional.mse_loss, "bce": functional.binary_cross_entropy_with_logits, "ce": functional.cross_entropy,
    "ce-soft": functional.cross_entropy,
}
ABSORBED = {"ce": ("Softmax",), "ce-soft": ("Softmax",), "bce": ("Sigmoid",)}


def torch_gradients(
    model: onnx.ModelProto, loss: str, x: np.ndarray, target: np.ndarray, names: Collection[str]
) -> tuple[float, dict[str, np.ndarray]]:
    """(loss, initializer → d loss / d initializer) for one sample; a loss reads logits, as tinytrain's do."""
    values: dict[str, Tensor | None] = {"": None}
    for tensor in model.graph.initializer:
        value = torch.from_numpy(numpy_helper.to_array(tensor).copy())
        values[tensor.name] = value.double() if value.is_floating_point() else value
    asked = {name: values[name].requires_grad_() for name in names}
    values[model.graph.input[0].name] = torch.from_numpy(np.asarray(x, np.float64))
    nodes = list(model.graph.node)
    if nodes[-1].op_type in ABSORBED.get(loss, ()):
        model = onnx.ModelProto.FromString(model.SerializeToString())
        model.graph.output[0].name = nodes.pop().input[0]
    for node in nodes:
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        made = OPS[node.op_type](attributes, *(values[name] for name in node.input))
        values.update(zip(node.output, made if isinstance(made, tuple) else (made,)))
    output = values[model.graph.output[0].name]
    wanted = torch.from_numpy(np.asarray(target))
    shape = output.shape if wanted.is_floating_point() else (1,)
    total = LOSSES[loss](output, wanted.reshape(shape))
    total.backward()
    return total.item(), {name: value.grad.numpy() for name, value in asked.items()}


def op(name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        OPS[name] = function
        return function

    return register


OPS.update({
    "Relu": lambda a, x: x.relu(), "Sigmoid": lambda a, x: x.sigmoid(), "Tanh": lambda a, x: x.tanh(), "Identity": lambda a, x: x,
    "Dropout": lambda a, x, *_: x, "LeakyRelu": lambda a, x: functional.leaky_relu(x, a.get("alpha", 0.01)),
    "Elu": lambda a, x: functional.elu(x, a.get("alpha", 1.0)), "Add": lambda a, x, y: x + y, "Sub": lambda a, x, y: x - y,
    "Mul": lambda a, x, y: x * y, "MatMul": lambda a, x, y: x @ y, "Concat": lambda a, *xs: torch.cat(xs, a["axis"]),
    "Softmax": lambda a, x: x.softmax(a.get("axis", -1)), "Transpose": lambda a, x: x.permute(a["perm"]),
    "Gelu": lambda a, x: functional.gelu(x, approximate=a.get("approximate", b"none").decode()),
    "Flatten": lambda a, x: x.flatten(a.get("axis", 1)),
    "GlobalAveragePool": lambda a, x: x.mean(tuple(range(2, x.ndim)), keepdim=True),
})


@op("Clip")
def clip(a: Attributes, x: Tensor, low: Given = None, high: Given = None) -> Tensor:
    """As ReLU6 does it: at a bound itself nothing flows."""
    return functional.hardtanh(x, *(end if bound is None else bound.item() for bound, end in ((low, -torch.inf), (high, torch.inf))))


@op("Reshape")
def reshape(a: Attributes, x: Tensor, shape: Tensor) -> Tensor:
    return x.reshape([x.shape[i] if n == 0 else n for i, n in enumerate(shape.tolist())])


@op("Gemm")
def gemm(a: Attributes, x: Tensor, w: Tensor, b: Given = None) -> Tensor:
    x, w = x.T if a.get("transA") else x, w.T if a.get("transB") else w
    y = a.get("alpha", 1.0) * (x @ w)
    return y if b is None else y + a.get("beta", 1.0) * b


def padded(a: Attributes, x: Tensor, value: float = 0.0) -> Tensor:
    """With what the window reads beyond the edges; ONNX has all starts, then all ends, PyTorch pairs from the last axis on."""
    pads = a.get("pads", [0] * 2 * (x.ndim - 2))
    rank = len(pads) // 2
    return functional.pad(x, [n for axis in reversed(range(rank)) for n in (pads[axis], pads[axis + rank])], value=value)


@op("Conv")
def conv(a: Attributes, x: Tensor, w: Tensor, b: Given = None) -> Tensor:
    rank = x.ndim - 2
    ones = [1] * rank
    function = (functional.conv1d, functional.conv2d)[rank - 1]
    return function(padded(a, x), w, b, a.get("strides", ones), 0, a.get("dilations", ones), a.get("group", 1))


@op("MaxPool")
def max_pool(a: Attributes, x: Tensor) -> Tensor:
    rank = x.ndim - 2
    function = (functional.max_pool1d, functional.max_pool2d)[rank - 1]
    return function(padded(a, x, -torch.inf), a["kernel_shape"], a.get("strides", [1] * rank))


@op("AveragePool")
def average_pool(a: Attributes, x: Tensor) -> Tensor:
    assert not any(a.get("pads", ())), "of padded windows only what lies inside counts"
    return functional.avg_pool2d(x, a["kernel_shape"], a.get("strides", [1, 1]))


@op("BatchNormalization")
def batch_norm(a: Attributes, x: Tensor, gamma: Tensor, beta: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    return functional.batch_norm(x, mean, variance, gamma, beta, eps=a.get("epsilon", 1e-5))


@op("LayerNormalization")
def layer_norm(a: Attributes, x: Tensor, gamma: Tensor, beta: Given = None) -> Tensor:
    return functional.layer_norm(x, x.shape[a.get("axis", -1):], gamma, beta, a.get("epsilon", 1e-5))


@op("LSTM")
def lstm(a: Attributes, x: Tensor, w: Tensor, r: Tensor, b: Tensor) -> tuple[Tensor, ...]:
    y, (h, c) = recurrent(nn.LSTM, (0, 2, 3, 1), a, x, w, r, b)
    return y[:, None], h, c


@op("GRU")
def gru(a: Attributes, x: Tensor, w: Tensor, r: Tensor, b: Tensor) -> tuple[Tensor, ...]:
    """PyTorch's cell resets after the product with R; ONNX's before it, unless told."""
    if a.get("linear_before_reset"):
        y, h = recurrent(nn.GRU, (1, 0, 2), a, x, w, r, b)
        return y[:, None], h
    (wz, wr, wn), (rz, rr, rn) = w[0].chunk(3), r[0].chunk(3)
    bz, br, bn, cz, cr, cn = b[0].chunk(6)
    h, made = torch.zeros(x.shape[1], a["hidden_size"], dtype=x.dtype), []
    for step in x:
        update, reset = (step @ wz.T + bz + h @ rz.T + cz).sigmoid(), (step @ wr.T + br + h @ rr.T + cr).sigmoid()
        h = (1 - update) * (step @ wn.T + bn + (reset * h) @ rn.T + cn).tanh() + update * h
        made.append(h)
    return torch.stack(made)[:, None], h[None]


def recurrent(kind: type[nn.RNNBase], gates: tuple[int, ...], a: Attributes, x: Tensor, w: Tensor, r: Tensor, b: Tensor) -> Any:
    """PyTorch's layer of one direction; `gates` is its order of what ONNX has in another one."""
    layer = kind(x.shape[-1], a["hidden_size"], dtype=x.dtype)

    def turned(rows: Tensor) -> Tensor:
        parts = rows.chunk(len(gates))
        return torch.cat([parts[g] for g in gates])

    given = zip(layer.state_dict(), (w[0], r[0], *b[0].chunk(2)), strict=True)
    return torch.func.functional_call(layer, {name: turned(part) for name, part in given}, (x,))
