# SPDX-License-Identifier: Apache-2.0
"""Whole networks through the importer: layouts, parameters and their way back, real models, and the text of each refusal."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from frontend_models import Arrays, check, f32, i64, infer, load, model_of, node, norm_arrays, op_names, oracles, scalar
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from tinytrain.errors import ModelError
from tinytrain.frontend.export import export
from tinytrain.frontend.onnx_import import import_model
from tinytrain.frontend.prepare import prepare
from tinytrain.ir.types import Role


def test_residual_network(tmp_path: Path) -> None:
    nodes = [
        node("Conv", "x w1 b1", "c1", "conv1", pads=[1, 1, 1, 1]), node("Relu", "c1", "r1"),
        node("Conv", "r1 w2", "c2", "conv2", pads=[1, 1, 1, 1]),
        node("Add", "c2 r1", "s", "sum"), node("MaxPool", "s", "p", kernel_shape=[2, 2], strides=[2, 2]), node("Flatten", "p", "f"),
        node("Gemm", "f w3 b3", "l", "fc", transB=1), node("Softmax", "l", "y", "prob"),
    ]
    arrays = {"w1": f32(4, 3, 3, 3), "b1": f32(4), "w2": f32(4, 4, 3, 3), "w3": f32(5, 64), "b3": f32(5)}
    imported = check(tmp_path, nodes, arrays, (1, 3, 8, 8))
    assert imported.input.perm == (1, 2, 0)
    assert imported.graph.inputs[0].shape == (8, 8, 3)
    assert imported.input.onnx_shape == (1, 3, 8, 8)
    assert list(imported.params) == ["w1", "b1", "w2", "w3", "b3"]
    assert op_names(imported) == ["conv2d", "add", "relu", "conv2d", "add", "max_pool", "transpose", "reshape", "dense", "add", "softmax"]


def test_channels_last_model_takes_samples_as_they_are(tmp_path: Path) -> None:
    """What converters from channels-last frameworks write: a Transpose first, which costs nothing here."""
    nodes = [
        node("Transpose", "x", "t", perm=[0, 3, 1, 2]), node("Conv", "t w", "c"), node("Transpose", "c", "u", perm=[0, 2, 3, 1]),
        node("Reshape", "u s", "y"),
    ]
    imported = check(tmp_path, nodes, {"w": f32(3, 2, 3, 3), "s": i64(1, -1)}, (1, 8, 7, 2))
    assert imported.input.perm == (0, 1, 2)
    assert op_names(imported) == ["conv2d", "reshape"]


def test_a_shared_weight_is_one_value(tmp_path: Path) -> None:
    nodes = [node("MatMul", "x w", "a", "one"), node("Tanh", "a", "b"), node("MatMul", "b w", "y", "two")]
    imported = check(tmp_path, nodes, {"w": f32(4, 4)}, (1, 4))
    assert len(imported.graph.stored(Role.CONST)) == 1


def test_a_weight_shared_in_two_layouts_is_one_value(tmp_path: Path) -> None:
    """An autoencoder with tied weights: encoder x·W, decoder h·Wᵀ."""
    nodes = [node("MatMul", "x w", "a", "enc"), node("Tanh", "a", "b"), node("Gemm", "b w", "y", "dec", transB=1)]
    imported = check(tmp_path, nodes, {"w": f32(6, 4)}, (1, 6))
    assert [v.shape for v in imported.graph.stored(Role.CONST)] == [(4, 6)]
    assert op_names(imported) == ["dense", "tanh", "transpose", "dense"]


def test_dropout_is_real_when_asked(tmp_path: Path) -> None:
    nodes = [node("Dropout", "x r", "a", "d1"), node("Relu", "a", "b"), node("Dropout", "b", "y", "d2")]
    onnx.save(model_of(nodes, {"r": scalar(0.25)}, (1, 4)), tmp_path / "m.onnx")
    prepared = prepare(tmp_path / "m.onnx")
    assert op_names(import_model(prepared)) == ["relu"]
    graph = import_model(prepared, dropout=True, seed=5).graph
    assert [n.op.name for n in graph.nodes] == ["dropout", "relu", "dropout", "advance"]
    assert [(old.name, new) for old, new in graph.updates.items()] == [("dropout_step", graph.nodes[3].outputs[0])]
    first, second = graph.nodes[0].op, graph.nodes[2].op
    assert first.ratio == 0.25  # type: ignore[attr-defined]
    assert second.ratio == 0.5  # type: ignore[attr-defined]
    assert first.seed != second.seed  # type: ignore[attr-defined]


def test_learned_weights_go_back_into_the_model(tmp_path: Path) -> None:
    """Change every parameter in our layout; the exported model computes what our graph computes with them."""
    nodes = [
        node("Conv", "x w1 b1", "c1", "conv1"), node("BatchNormalization", "c1 g b m v", "n", "bn"),
        node("Conv", "n w2", "c2", "dw", group=4),
        node("Flatten", "c2", "f"), node("MatMul", "f w3", "z", "fc"), node("Add", "z b3", "y", "bias"),
    ]
    arrays = norm_arrays(4) | {"w1": f32(4, 3, 3, 3), "b1": f32(4), "w2": f32(4, 1, 3, 3), "w3": f32(64, 5), "b3": f32(5)}
    prepared, imported = load(tmp_path, model_of(nodes, arrays, (1, 3, 8, 8)))
    learned = {v.name: v.data + f32(*v.shape) for v in imported.params.values() if v.data is not None}
    model = export(prepared.model, {name: v.source.to_onnx(learned[v.name]) for name, v in imported.params.items() if v.source}, "m.onnx")
    sample = f32(1, 3, 8, 8)
    got = infer(imported, sample, {v: learned[v.name] for v in imported.params.values()})
    for want in oracles(model, sample):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)
    with pytest.raises(ModelError, match=r"m\.onnx has no initializer w9; expected one of"):
        export(prepared.model, {"w9": f32(1)}, "m.onnx")
    with pytest.raises(ModelError, match=r"initializer w3 has the shape \(64, 5\), the learned array \(5, 64\)"):
        export(prepared.model, {"w3": f32(5, 64)}, "m.onnx")
    with pytest.raises(ModelError, match="the learned initializer b3 holds NaN or infinite values; expected finite weights"):
        export(prepared.model, {"b3": f32(5) * np.float32(np.nan)}, "m.onnx")


REFUSALS: dict[str, tuple[list[onnx.NodeProto], Arrays, str]] = {
    "op": (
        [node("Det", name="e")], {},
        "e (Det) in {file}: this op is not supported; expected one that `tinytrain ops` lists",
    ),
    "domain": (
        [helper.make_node("Gelu", ["x"], ["y"], name="g", domain="com.microsoft")], {},
        "g (com.microsoft.Gelu) in {file}: this op is not supported; expected one that `tinytrain ops` lists",
    ),
    "conv weight": (
        [node("Conv", "x x", name="c")], {},
        "c (Conv) in {file}: its weight is computed by the model (x), expected a constant.",
    ),
    "output padding": (
        [node("ConvTranspose", "x w", name="c", output_padding=[1, 0], dilations=[2, 1])], {"w": f32(2, 1, 3, 3)},
        "c (ConvTranspose) in {file}: its output has 9 elements along space axis 0, of which the weight reaches 8, expected less",
    ),
    "3-D": (
        [node("Unsqueeze", "x a", "u"), node("Conv", "u w", name="c")], {"a": i64(2), "w": f32(3, 2, 1, 2, 2)},
        "c (Conv) in {file}: its input has 3 space axes, expected 1 or 2.",
    ),
    "pad mode": (
        [node("Pad", "x p", name="p1", mode="mirror")], {"p": i64(0, 0, 1, 1, 0, 0, 1, 1)},
        "p1 (Pad) in {file}: its mode is mirror, expected constant or reflect, edge, wrap.",
    ),
    "slope": (
        [node("LeakyRelu", name="l", alpha=-0.5)], {},
        "l (LeakyRelu) in {file}: alpha is -0.5, expected 0 or more.",
    ),
    "bounds": (
        [node("Clip", "x a b", name="k")], {"a": scalar(2), "b": scalar(1)},
        "k (Clip) in {file}: its lower bound 2 is above its upper bound 1.",
    ),
    "ceil": (
        [node("AveragePool", name="a", kernel_shape=[2, 2], strides=[3, 3], pads=[1, 1, 1, 1], ceil_mode=1, count_include_pad=1)], {},
        "a (AveragePool) in {file}: padding Pad(top=1, left=1, bottom=3, right=3) around (4, 4): a window of (2, 2) would hold nothing but",
    ),
    "variance": (
        [node("BatchNormalization", "x g b m v", name="bn")], {k: -v for k, v in norm_arrays(2).items()},
        "bn (BatchNormalization) in {file}: its variance plus epsilon is not positive.",
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_refusals(case: str, tmp_path: Path) -> None:
    nodes, arrays, text = REFUSALS[case]
    model = model_of(nodes, arrays, (1, 2, 4, 4), opset=19)
    with pytest.raises(ModelError) as caught:
        load(tmp_path, model)
    assert text.format(file=tmp_path / "m.onnx") in str(caught.value)
    assert "\n" in str(caught.value), "what to try is missing"


def test_two_outputs_and_outputs_that_are_not_made(tmp_path: Path) -> None:
    model = model_of([node("MaxPool", "x", "y i", "mp", kernel_shape=[2, 2])], {}, (1, 2, 4, 4))
    assert op_names(load(tmp_path, model)[1]) == ["max_pool"]
    model = model_of([node("Relu", "x", "z"), node("Tanh", "z", "y")], {}, (1, 4))
    model.graph.output.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, (1, 4)))
    assert [port.name for port in load(tmp_path, model)[1].outputs] == ["y", "z"]
    model = model_of([node("MaxPool", "x", "z i", "mp", kernel_shape=[2, 2]), node("Relu", "z", "y")], {}, (1, 2, 4, 4))
    model.graph.output.append(helper.make_tensor_value_info("i", TensorProto.INT64, (1, 2, 3, 3)))
    with pytest.raises(ModelError, match="its output i is used, which is not supported"):
        load(tmp_path, model)


def test_two_inputs(tmp_path: Path) -> None:
    model = model_of([node("Relu", "x", "y")], {}, (1, 4))
    model.graph.input.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, (1, 4)))
    imported = load(tmp_path, model)[1]
    assert [port.name for port in imported.inputs] == ["x", "z"]
    assert op_names(imported) == ["part", "relu"]


REAL = (
    "mcunet5fps_10cls_fp32", "mcunet5fps_imagenet_fp32", "mlperf_ad_fcae_bn", "mlperf_ic_resnet8_bn", "mlperf_kws_dscnn_bn",
    "mlperf_vww_mbv1_025_bn",
)


@pytest.mark.parametrize("fold", [True, False], ids=["folded", "unfolded"])
@pytest.mark.parametrize("name", REAL)
def test_real_models(name: str, fold: bool, shared_data: Path) -> None:
    path = shared_data / "models" / f"{name}.onnx"
    imported = import_model(prepare(path, fold_batchnorm=fold))
    sample = np.random.default_rng(1).standard_normal(imported.input.onnx_shape).astype(np.float32)
    model = onnx.load(path)
    # before opset 15 onnx's evaluator takes batch norm for its training form
    model.opset_import[0].version = 15
    want = ReferenceEvaluator(model).run(None, {model.graph.input[0].name: sample})[0]
    np.testing.assert_allclose(infer(imported, sample), want, rtol=1e-4, atol=1e-4 * max(1.0, float(np.abs(want).max())))
    assert "transpose" not in op_names(imported), "data move although the last map is 1 by 1"
    assert all(n.origin for n in imported.graph.nodes)
