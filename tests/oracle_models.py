# SPDX-License-Identifier: Apache-2.0
"""Models of all kinds whose gradients are compared with those of an oracle, and how."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import DTypeLike
from onnx import numpy_helper
from onnx_models import ModelMaker, imported, to_ir

from tinytrain.gradient.objective import losses
from tinytrain.ir.builder import Builder
from tinytrain.ir.op import Declined
from tinytrain.ir.types import Array
from tinytrain.verify.checks import model_gradients

RTOL = 1e-5
Gradients = dict[str, Array]
# (model, loss, sample, target, initializers that are asked for) -> (loss, their gradients), or why it cannot tell
Oracle = Callable[[onnx.ModelProto, str, Array, Array, Mapping[str, Array]], tuple[float, Gradients] | Declined]


def mlp() -> ModelMaker:
    m = ModelMaker(1, 12, seed=1)
    m.dense(9, 12)
    m.node("Relu")
    m.dense(7, 9)
    m.node("Tanh")
    m.dense(4, 7)
    return m


def cnn() -> ModelMaker:
    """Strides, one-sided pads, batch normalisation with frozen statistics, a softmax that the loss absorbs."""
    m = ModelMaker(1, 2, 9, 8, seed=2)
    m.conv(4, 2, pads=[1, 1, 1, 1])
    m.batch_norm(4)
    m.node("Relu")
    m.conv(6, 4, strides=[2, 2], pads=[0, 0, 1, 1])
    m.node("Sigmoid")
    m.node("Flatten")
    m.dense(5, 96)
    m.node("Softmax", axis=-1)
    return m


def separable() -> ModelMaker:
    m = ModelMaker(1, 3, 8, 8, seed=3)
    m.conv(6, 3, strides=[2, 2], pads=[1, 1, 1, 1])
    m.batch_norm(6)
    m.node("Clip", m.stored(np.float32(0)), m.stored(np.float32(0.6)))
    m.conv(6, 1, group=6, pads=[1, 1, 1, 1])
    m.batch_norm(6)
    m.node("LeakyRelu", alpha=0.1)
    m.conv(4, 6, size=1)
    m.node("GlobalAveragePool")
    m.node("Flatten")
    m.dense(3, 4)
    return m


def pools() -> ModelMaker:
    m = ModelMaker(1, 2, 10, 10, seed=4)
    m.conv(4, 2)
    m.node("MaxPool", kernel_shape=[2, 2], strides=[2, 2])
    m.conv(4, 4, pads=[1, 1, 1, 1])
    m.node("AveragePool", kernel_shape=[2, 2], strides=[2, 2])
    m.node("Flatten")
    m.node("Dropout")
    m.dense(3, 16)
    return m


def residual() -> ModelMaker:
    """One value with two readers, another branch of another stride, Concat, Mul and Sub."""
    m = ModelMaker(1, 3, 8, 8, seed=5)
    x = m.conv(4, 3, pads=[1, 1, 1, 1])
    m.node("Relu")
    y = m.conv(4, 4, pads=[1, 1, 1, 1])
    added = m.node("Add", x, first=y)
    a = m.conv(4, 4, strides=[2, 2], pads=[1, 1, 1, 1])
    m.node("Conv", m.weight(4, 4, 1, 1), first=added, kernel_shape=[1, 1], strides=[2, 2])
    b = m.node("Mul", a)
    c = m.node("Sub", a, first=b)
    m.node("Concat", b, first=c, axis=1)
    m.node("Flatten")
    m.dense(4, 128)
    return m


CASES: list[tuple[Callable[[], ModelMaker], str]] = [
    (mlp, "ce"), (mlp, "ce-soft"), (mlp, "mse"), (mlp, "bce"), (cnn, "ce"), (separable, "ce"), (pools, "mse"), (residual, "ce-soft"),
]


def ours(model: onnx.ModelProto, loss: str, x: Array, target: Array, folder: Path, dtype: DTypeLike = np.float64) -> dict[str, Array]:
    """Initializer → gradient in the ONNX layout, of every parameter that can be trained, by autodiff and reference."""
    read = imported(model, folder, fold_batchnorm=False)
    graph, loss_op = read.graph, losses()[loss]()
    output = graph.outputs[0]
    last = graph.producers()[output]
    logits = last.inputs[0] if isinstance(last.op, loss_op.absorbs) else output
    g = Builder("check", graph.values(), graph.nodes)
    kind = loss_op.target_type(logits.type)
    wanted = g.input("target", kind.shape, kind.dtype)
    g.inputs.insert(0, graph.inputs[0])
    total = g.emit(loss_op, logits, wanted)
    params = {name: v for name, v in read.params.items() if v in set(graph.values())}
    found = model_gradients(g.graph([total]), total, list(params.values()), [to_ir(read, x), target.reshape(kind.shape)], dtype=dtype)
    made = {}
    for name, v in params.items():
        assert v.source is not None
        if v in found:
            made[name] = v.source.to_onnx(found[v])
    return made


def compare(oracle: Oracle, model: onnx.ModelProto, loss: str, x: Array, target: Array, folder: Path, dtype: DTypeLike = np.float64,
            rtol: float = RTOL, least: float = 1e-6) -> set[str]:
    """The gradients of each tensor that can be trained, which are named; by its largest entry, or `least` of the largest of all."""
    mine = ours(model, loss, x, target, folder, dtype)
    stored = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    answer = oracle(model, loss, x, target, {name: stored[name] for name in mine})
    assert not isinstance(answer, Declined), answer
    _, theirs = answer
    largest = 0.0
    for name, want in theirs.items():
        got = mine[name]
        assert got.shape == want.shape, name
        # a bias before batch normalisation with frozen statistics and such have small gradients: measured against the largest of all
        scale = max(float(np.abs(want).max()), least * max(float(np.abs(g).max()) for g in theirs.values()))
        error = float(np.abs(got - want).max()) / scale
        assert error <= rtol, f"gradient of {name} differs by {error:.3g} of its largest entry"
        largest = max(largest, error)
    print(f"{model.graph.name}: {len(mine)} tensors, by {largest:.1e} of the largest entry of one at most")
    return set(mine)


def a_target(loss: str, outputs: int, rng: np.random.Generator) -> Array:
    return np.array([1]) if loss == "ce" else rng.dirichlet(np.ones(outputs)) if loss == "ce-soft" else rng.uniform(size=outputs)


def drawn(model: onnx.ModelProto, loss: str, rng: np.random.Generator) -> tuple[Array, Array]:
    """A sample and a target for a model with a batch of 1."""
    shapes = [[d.dim_value for d in value.type.tensor_type.shape.dim] for value in (model.graph.input[0], model.graph.output[0])]
    return rng.normal(size=shapes[0]), a_target(loss, shapes[1][1], rng)


def trainable(model: onnx.ModelProto) -> set[str]:
    """What is learned in it by any account: weights and biases, scales and offsets."""
    asked = {"BatchNormalization": slice(1, 3), **dict.fromkeys(("Conv", "Gemm", "LayerNormalization", "LSTM", "GRU"), slice(1, None))}
    return {name for node in model.graph.node for name in node.input[asked.get(node.op_type, slice(0))]}


def off_kinks(model: onnx.ModelProto, rng: np.random.Generator) -> onnx.ModelProto:
    """With other offsets in place: at 0, where a network that has learned nothing often stands, oracles choose other slopes of a ReLU."""
    for tensor in model.graph.initializer:
        if len(tensor.dims) == 1 and tensor.data_type == tensor.FLOAT:
            moved = numpy_helper.to_array(tensor) + rng.uniform(0.01, 0.1, tuple(tensor.dims)).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(moved, tensor.name))
    return model
