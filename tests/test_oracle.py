# SPDX-License-Identifier: Apache-2.0
"""Gradients of whole models against TVM Relax, which shares no code with tinytrain: importer, rules and kernels are all its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from onnx_models import ModelMaker, imported, to_ir

from tinytrain.gradient.objective import losses
from tinytrain.ir.builder import Builder
from tinytrain.ir.op import Declined
from tinytrain.ir.types import Array
from tinytrain.verify.checks import model_gradients
from tinytrain.verify.oracle import tvm_gradients

pytest.importorskip("tvm", reason="needs the extra tvm")
RTOL = 1e-5


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


def ours(model: onnx.ModelProto, loss: str, x: Array, target: Array, folder: Path) -> dict[str, Array]:
    """Initializer → gradient in the ONNX layout, of every parameter that can be trained; autodiff and reference in float64."""
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
    found = model_gradients(g.graph([total]), total, list(params.values()), [to_ir(read, x), target.reshape(kind.shape)])
    made = {}
    for name, v in params.items():
        assert v.source is not None
        if v in found:
            made[name] = v.source.to_onnx(found[v])
    return made


def compare(model: onnx.ModelProto, loss: str, x: Array, target: Array, folder: Path) -> set[str]:
    mine = ours(model, loss, x, target, folder)
    stored = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    answer = tvm_gradients(model, loss, x, target, {name: stored[name] for name in mine})
    assert not isinstance(answer, Declined), answer
    _, theirs = answer
    for name, want in theirs.items():
        got = mine[name]
        assert got.shape == want.shape, name
        # a bias before batch normalisation with frozen statistics and such have small gradients: measured against the largest of all
        scale = max(float(np.abs(want).max()), 1e-6 * max(float(np.abs(g).max()) for g in theirs.values()))
        error = float(np.abs(got - want).max()) / scale
        assert error <= RTOL, f"gradient of {name} differs by {error:.3g} of its largest entry"
    return set(mine)


def a_target(loss: str, outputs: int, rng: np.random.Generator) -> Array:
    return np.array([1]) if loss == "ce" else rng.dirichlet(np.ones(outputs)) if loss == "ce-soft" else rng.uniform(size=outputs)


@pytest.mark.parametrize(("make", "loss"), CASES, ids=[f"{make.__name__}-{loss}" for make, loss in CASES])
def test_gradients_equal_those_of_tvm(make: Callable[[], ModelMaker], loss: str, tmp_path: Path) -> None:
    maker = make()
    model = maker.model()
    outputs = model.graph.output[0].type.tensor_type.shape.dim[1].dim_value
    x = maker.rng.normal(size=maker.input_shape)
    names = compare(model, loss, x, a_target(loss, outputs, maker.rng), tmp_path)
    weights = {name for node in model.graph.node if node.op_type in ("Conv", "Gemm") for name in node.input[1:]}
    weights |= {name for node in model.graph.node if node.op_type == "BatchNormalization" for name in node.input[1:3]}
    assert names >= weights, f"not trainable: {weights - names}"


@pytest.mark.parametrize(("name", "shape", "loss"), [
    ("mlperf_kws_dscnn_bn", (1, 1, 49, 10), "ce"),
    ("mlperf_ad_fcae_bn", (1, 640), "mse"),
    pytest.param("mlperf_ic_resnet8_bn", (1, 3, 32, 32), "ce"),
    pytest.param("mlperf_vww_mbv1_025_bn", (1, 3, 96, 96), "ce", marks=pytest.mark.long),
])
def test_gradients_of_published_models(name: str, shape: tuple[int, ...], loss: str, shared_data: Path, tmp_path: Path) -> None:
    path = shared_data / "models" / f"{name}.onnx"
    if not path.exists():
        pytest.skip(f"needs {path.name}")
    rng = np.random.default_rng(7)
    x = rng.normal(size=shape)
    target = np.array([1]) if loss == "ce" else rng.normal(size=shape[1])
    assert compare(onnx.load(path), loss, x, target, tmp_path)


DECLINED: list[tuple[str, dict[str, Any], str]] = [
    ("Conv", {"kernel_shape": [3, 3], "dilations": [2, 2]}, "dilated"),
    ("Conv", {"kernel_shape": [3, 3], "auto_pad": "SAME_UPPER"}, "SAME"),
    ("MaxPool", {"kernel_shape": [2, 2], "auto_pad": "SAME_LOWER"}, "SAME"),
]


@pytest.mark.parametrize(("op", "attributes", "word"), DECLINED, ids=[f"{op}-{word}" for op, _, word in DECLINED])
def test_what_tvm_cannot_is_declined_by_name(op: str, attributes: dict[str, Any], word: str) -> None:
    maker = ModelMaker(1, 2, 8, 8)
    out = maker.node(op, *([maker.weight(2, 2, 3, 3)] if op == "Conv" else []), **attributes)
    maker.node("GlobalAveragePool")
    maker.node("Flatten")
    answer = tvm_gradients(maker.model(), "mse", np.zeros((1, 2, 8, 8)), np.zeros(2), {})
    assert isinstance(answer, Declined)
    assert f"n_{out} ({op})" in answer.why and word in answer.why
