# SPDX-License-Identifier: Apache-2.0
"""Import of quantised models as they are written: QDQ and QOperator, int8 and uint8, per tensor and per channel.

The oracle is onnxruntime without its optimisations: every integer tensor of a model within one step.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from frontend_models import RNG, Arrays, f32, infer, load, model_of, node, op_names
from onnx import TensorProto, helper, numpy_helper
from oracle_session import SAFE, session_of
from quant_models import Qdq, assert_layers_agree, one_conv

from tinytrain.frontend.export import export
from tinytrain.frontend.onnx_import import import_model
from tinytrain.frontend.prepare import prepare
from tinytrain.ir.types import S8, S32, Role

pytest.importorskip("onnxruntime")

CONVS: dict[str, tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = {
    "3x3": ((1, 3, 8, 7), (5, 3, 3, 3), {"pads": [1, 1, 1, 1]}),
    "1x1": ((1, 3, 8, 7), (5, 3, 1, 1), {}),
    "stride": ((1, 3, 9, 9), (5, 3, 3, 3), {"pads": [1, 0, 1, 2], "strides": [2, 2]}),
    "group": ((1, 4, 8, 7), (6, 2, 3, 3), {"group": 2}),
    "depthwise": ((1, 4, 8, 7), (4, 1, 3, 3), {"group": 4, "pads": [1, 1, 1, 1]}),
    "1-D": ((1, 3, 12), (5, 3, 4), {"strides": [2]}),
}


@pytest.mark.parametrize("uint8", [False, True], ids=["int8", "uint8"])
@pytest.mark.parametrize("axis", [0, None], ids=["channels", "tensor"])
@pytest.mark.parametrize("case", CONVS)
def test_conv(case: str, axis: int | None, uint8: bool, tmp_path: Path) -> None:
    shape, kernel, attributes = CONVS[case]
    net = Qdq(uint8)
    x, w = net.quantised("x", -1.5, 2), net.weight("w", *kernel, axis=axis, uint8=uint8)
    net.quantised(net.add("Conv", f"{x} {w} {net.bias('b', 'x', 'w', kernel[0])}", "c", **attributes), name="y")
    prepared, imported = net.load(tmp_path, shape)
    assert assert_layers_agree(prepared, imported, f32(*shape)) == 2
    layer = "depthwise_conv2d" if case == "depthwise" else "conv2d"
    assert [name for name in op_names(imported) if name != "reshape"] == ["quantise", layer, "add", "requantise", "dequantise"]
    assert not imported.float_islands
    assert set(imported.params) == {"w_q", "b_q"}
    for name, value in imported.params.items():
        assert value.type.dtype is (S8 if name == "w_q" else S32)
        assert value.type.quant is not None
        assert len(value.type.quant.scale) == kernel[0]
        assert value.source is not None
        assert value.data is not None
        np.testing.assert_array_equal(value.source.to_onnx(value.data), net.arrays[name])


@pytest.mark.parametrize("bounds", ["Relu", "Clip"])
def test_an_activation_becomes_bounds(bounds: str, tmp_path: Path) -> None:
    net = Qdq()
    net.arrays |= {"lo": np.array(0, np.float32), "hi": np.array(0.75, np.float32)}
    x, w = net.quantised("x"), net.weight("w", 4, 3, 3, 3)
    net.add("Conv", f"{x} {w}", "c")
    net.quantised(net.add(bounds, "c lo hi" if bounds == "Clip" else "c", "r"), -0.5, 1.5, name="y")
    prepared, imported = net.load(tmp_path, (1, 3, 6, 5))
    assert assert_layers_agree(prepared, imported, f32(1, 3, 6, 5)) == 2
    assert op_names(imported)[:3] == ["quantise", "conv2d", "requantise"]
    op = imported.graph.nodes[2].op
    assert op.low == -64  # type: ignore[attr-defined]
    assert op.high == (32 if bounds == "Clip" else 127)  # type: ignore[attr-defined]


@pytest.mark.parametrize("transposed", [0, 1])
def test_gemm(transposed: int, tmp_path: Path) -> None:
    net = Qdq()
    x, w = net.quantised("x"), net.weight("w", *((5, 7) if transposed else (7, 5)), axis=1 - transposed)
    net.quantised(net.add("Gemm", f"{x} {w} {net.bias('b', 'x', 'w', 5)}", "g", transB=transposed), name="y")
    prepared, imported = net.load(tmp_path, (1, 7))
    assert assert_layers_agree(prepared, imported, f32(1, 7)) == 2
    assert op_names(imported) == ["quantise", "dense", "add", "requantise", "dequantise"]


@pytest.mark.parametrize("stored", ["int32", "float"])
def test_matmul_with_a_bias_behind_it(stored: str, tmp_path: Path) -> None:
    net = Qdq()
    x, w = net.quantised("x"), net.weight("w", 7, 5, axis=1)
    net.add("MatMul", f"{x} {w}", "m")
    b = net.bias("b", "x", "w", 5)
    if stored == "float":
        net.arrays["b"] = f32(5)
        net.nodes.pop()
    net.quantised(net.add("Add", f"m {b}", "a"), name="y")
    prepared, imported = net.load(tmp_path, (1, 3, 7))
    assert assert_layers_agree(prepared, imported, f32(1, 3, 7)) == 2
    assert op_names(imported) == ["quantise", "dense", "add", "requantise", "dequantise"]
    assert set(imported.params) == {"w_q", "b_q" if stored == "int32" else "b"}
    value = imported.params["b_q" if stored == "int32" else "b"]
    assert value.type.dtype is S32
    if stored == "float":
        assert value.source is not None
        assert value.data is not None
        np.testing.assert_allclose(value.source.to_onnx(value.data), net.arrays["b"], atol=1e-4)


def test_a_convolution_then_flatten_then_quantise(tmp_path: Path) -> None:
    """One scale per channel does not survive a change of order: integers are requantised first."""
    net = Qdq()
    x, w = net.quantised("x"), net.weight("w", 4, 3, 3, 3)
    net.add("Conv", f"{x} {w}", "c")
    f = net.quantised(net.add("Flatten", "c", "f"))
    net.quantised(net.add("Gemm", f"{f} {net.weight('v', 48, 5, axis=1)}", "g"), name="y")
    prepared, imported = net.load(tmp_path, (1, 3, 6, 5))
    assert op_names(imported)[:5] == ["quantise", "conv2d", "requantise", "transpose", "reshape"]
    assert_layers_agree(prepared, imported, f32(1, 3, 6, 5))


def test_what_is_no_layer_becomes_a_float_island(tmp_path: Path) -> None:
    net = Qdq()
    x, w = net.quantised("x"), net.weight("w", 4, 3, 1, 1)
    t = net.quantised(net.add("Tanh", net.add("Conv", f"{x} {w}", "c"), "t"))
    net.add("Softmax", net.add("Flatten", t, "f"), "y")
    prepared, imported = net.load(tmp_path, (1, 3, 6, 5))
    assert imported.float_islands == ("Tanh_t", "Softmax_y")
    assert_layers_agree(prepared, imported, f32(1, 3, 6, 5))


def test_max_pool_and_pad_stay_integers(tmp_path: Path) -> None:
    net = Qdq(uint8=True)
    net.arrays["pads"] = np.array([0, 0, 1, 0, 0, 0, 0, 1], np.int64)
    x = net.quantised("x", -1, 3)
    net.add("MaxPool", net.add("Pad", f"{x} pads", "p"), "m", kernel_shape=[2, 2], strides=[2, 2])
    net.quantised("m", -1, 3, name="y")
    prepared, imported = net.load(tmp_path, (1, 3, 7, 5))
    assert op_names(imported)[:3] == ["quantise", "pad", "max_pool"]
    assert_layers_agree(prepared, imported, f32(1, 3, 7, 5))


@pytest.mark.parametrize("uint8", [False, True], ids=["int8", "uint8"])
@pytest.mark.parametrize("op", ["Add", "Mul", "Sub"])
@pytest.mark.parametrize("shape", [(1, 4, 6, 5), (1, 4, 1, 1), (1,)], ids=["full", "channels", "one"])
def test_arithmetic_of_two_scales(shape: tuple[int, ...], op: str, uint8: bool, tmp_path: Path) -> None:
    """The residual of a network, its squeeze and excitation, and a stored operand; a Relu behind it becomes bounds."""
    net = Qdq(uint8)
    a = net.quantised("x", -1, 3)
    if shape == (1,):
        net.arrays |= {"k_q": np.array([net.middle + 90], net.dtype), "k_z": np.array(net.middle, net.dtype)}
        net.arrays["k_s"] = np.array(0.01, np.float32)
        net.nodes.append(node("DequantizeLinear", "k_q k_s k_z", "b"))
        b = "b"
    elif shape[2] == 1:
        b = net.quantised(net.add("GlobalAveragePool", a, "g"), -1, 1)
    else:
        b = net.quantised(net.add("MaxPool", a, "m", kernel_shape=[3, 3], pads=[1, 1, 1, 1]), -0.5, 3)
    net.quantised(net.add("Relu", net.add(op, f"{b} {a}", "s"), "r"), -1, 4, name="y")
    prepared, imported = net.load(tmp_path, (1, 4, 6, 5))
    assert assert_layers_agree(prepared, imported, f32(1, 4, 6, 5)) == 2 + (shape != (1,))
    assert op_names(imported)[-2:] == ["mul_q" if op == "Mul" else "add_q", "dequantise"]
    assert not imported.float_islands


@pytest.mark.parametrize(("op", "attributes"), [
    ("AveragePool", {"kernel_shape": [2, 3]}), ("AveragePool", {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}),
    ("AveragePool", {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "count_include_pad": 1}), ("GlobalAveragePool", {}),
    ("ReduceMean", {"axes": [2, 3], "keepdims": 0}), ("ReduceMean", {"axes": [2]}),
])
def test_means(op: str, attributes: dict[str, Any], tmp_path: Path) -> None:
    net = Qdq(uint8=True)
    net.quantised(net.add(op, net.quantised("x", -1, 2), "m", **attributes), -0.5, 1, name="y")
    prepared, imported = net.load(tmp_path, (1, 4, 7, 6))
    assert assert_layers_agree(prepared, imported, f32(1, 4, 7, 6)) == 2
    assert not imported.float_islands


@pytest.mark.parametrize("op", ["Sigmoid", "Tanh", "LeakyRelu", "HardSigmoid", "HardSwish", "Relu"])
def test_functions_of_one_int8_number(op: str, tmp_path: Path) -> None:
    net = Qdq()
    net.quantised(net.add(op, net.quantised("x", -4, 3), "f"), -1, 2, name="y")
    prepared, imported = net.load(tmp_path, (1, 4, 7, 6))
    assert assert_layers_agree(prepared, imported, 2 * f32(1, 4, 7, 6)) == 2
    assert op_names(imported) == ["quantise", "requantise" if op == "Relu" else "lookup", "dequantise"]


def test_concat_brings_its_parts_to_one_scale(tmp_path: Path) -> None:
    net = Qdq(uint8=True)
    x = net.quantised("x", -1, 2)
    m = net.quantised(net.add("MaxPool", x, "m", kernel_shape=[3, 3], pads=[1, 1, 1, 1]), -0.5, 1.5)
    net.quantised(net.add("Concat", f"{x} {m}", "c", axis=1), -0.8, 1.8, name="y")
    prepared, imported = net.load(tmp_path, (1, 3, 6, 5))
    assert op_names(imported)[-4:] == ["requantise", "requantise", "concat", "dequantise"]
    assert not imported.float_islands
    assert assert_layers_agree(prepared, imported, f32(1, 3, 6, 5)) == 3


def test_concat_of_one_scale_only_copies(tmp_path: Path) -> None:
    net = Qdq()
    x = net.quantised("x", -1, 2)
    net.quantised(net.add("Concat", f"{x} {net.add('MaxPool', x, 'm', kernel_shape=[1, 1])}", "c", axis=1), -1, 2, name="y")
    prepared, imported = net.load(tmp_path, (1, 3, 6, 5))
    assert op_names(imported) == ["quantise", "max_pool", "concat", "dequantise"]
    assert_layers_agree(prepared, imported, f32(1, 3, 6, 5))


QOPERATORS = {
    "conv": ("QLinearConv", "xq xs xz wq ws wz ys yz bq", (5, 3, 3, 3), 0, ""),
    "matmul": ("QLinearMatMul", "xq xs xz wq ws wz ys yz", (5, 7), None, ""),
    "gemm": ("QGemm", "xq xs xz wq ws wz bq ys yz", (5, 7), 1, "com.microsoft"),
}


@pytest.mark.parametrize("uint8", [False, True], ids=["int8", "uint8"])
@pytest.mark.parametrize("case", QOPERATORS)
def test_qoperator(case: str, uint8: bool, tmp_path: Path) -> None:
    op, operands, kernel, axis, domain = QOPERATORS[case]
    dtype, middle = (np.uint8, 128) if uint8 else (np.int8, 0)
    channels = 1 if axis is None else kernel[axis]
    ws = RNG.uniform(0.002, 0.006, channels).astype(np.float32)
    arrays: Arrays = {
        "xs": np.array(0.02, np.float32), "xz": np.array(middle - 7, dtype),
        "ys": np.array(0.03, np.float32), "yz": np.array(middle + 9, dtype),
        "wq": RNG.integers(-SAFE, SAFE + 1, kernel).astype(np.int8), "ws": ws if axis is not None else ws.reshape(()),
        "wz": np.zeros(channels if axis is not None else (), np.int8), "bq": RNG.integers(-900, 900, channels).astype(np.int32),
    }
    nodes = [node("QuantizeLinear", "x xs xz", "xq"), node(op, operands, "yq", name="layer"), node("DequantizeLinear", "yq ys yz", "y")]
    nodes[1].domain = domain
    shape = (1, 3, 6, 5) if case == "conv" else (1, 5)
    model = model_of(nodes, arrays, shape)
    prepared, imported = load(tmp_path, model)
    sample = f32(*shape)
    assert assert_layers_agree(prepared, imported, sample) == 2
    assert not imported.float_islands
    assert set(imported.params) == ({"wq"} if case == "matmul" else {"wq", "bq"})
    assert {n.origin for n in imported.graph.nodes} >= {"layer"}
    want, mine = (session_of(one).run(None, {"x": sample})[0] for one in (model, prepared.model))
    assert (np.abs(want - mine) <= 0.031).mean() >= 0.999


@pytest.mark.parametrize(("largest", "exact"), [(SAFE, True), (SAFE + 1, False)])
def test_the_oracle_declines_what_depends_on_the_cpu(largest: int, exact: bool) -> None:
    weight = numpy_helper.from_array(np.full((2, 2), -largest, np.int8), "w")
    layer = node("MatMulInteger", "x w", "y")
    kinds = [helper.make_tensor_value_info(name, kind, (1, 2)) for name, kind in (("x", TensorProto.UINT8), ("y", TensorProto.INT32))]
    model = helper.make_model(helper.make_graph([layer], "g", kinds[:1], kinds[1:], [weight]), opset_imports=[helper.make_opsetid("", 15)])
    model.ir_version = 8
    if exact:
        (y,) = session_of(model).run(None, {"x": np.full((1, 2), 255, np.uint8)})
        np.testing.assert_array_equal(y, -2 * 255 * largest)
    else:
        with pytest.raises(AssertionError, match=r"w: the result would depend on the CPU; keep weights within ±64"):
            session_of(model)


@pytest.mark.parametrize("per_channel", [False, True], ids=["tensor", "channels"])
@pytest.mark.parametrize("kinds", [("QInt8", "QInt8"), ("QUInt8", "QInt8"), ("QUInt8", "QUInt8")], ids="-".join)
@pytest.mark.parametrize("form", ["QDQ", "QOperator"])
def test_what_onnxruntime_quantises(form: str, kinds: tuple[str, str], per_channel: bool, tmp_path: Path) -> None:
    """Its tool writes every form. Asymmetric uint8 weights, whose integers less their zero point fit no int8, stay real numbers."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Samples(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.left = [f32(1, 3, 8, 8) for _ in range(3)]

        def get_next(self) -> dict[str, np.ndarray] | None:
            return {"x": self.left.pop()} if self.left else None

    nodes = [
        node("Conv", "x w1 b1", "c1", "conv1", pads=[1, 1, 1, 1]), node("Relu", "c1", "r1", "relu1"),
        node("Conv", "r1 w2 b2", "c2", "conv2", pads=[1, 1, 1, 1], group=4), node("Add", "c2 r1", "s", "sum"),
        node("MaxPool", "s", "m", "pool", kernel_shape=[2, 2], strides=[2, 2]), node("Concat", "m m", "k", "cat", axis=1),
        node("GlobalAveragePool", "k", "g", "mean"), node("Flatten", "g", "f", "flat"), node("Gemm", "f w3 b3", "l", "fc"),
        node("Softmax", "l", "y", "prob", axis=-1),
    ]
    # the first weights are all positive: without a sign their zero point is 0, and the largest are beyond int8
    arrays = {"w1": np.abs(f32(4, 3, 3, 3)), "b1": f32(4), "w2": f32(4, 1, 3, 3), "b2": f32(4), "w3": f32(8, 5), "b3": f32(5)}
    onnx.save(model_of(nodes, arrays, (1, 3, 8, 8)), tmp_path / "f.onnx")
    activations, weights = (getattr(QuantType, kind) for kind in kinds)
    quantize_static(
        tmp_path / "f.onnx", tmp_path / "m.onnx", Samples(), quant_format=getattr(QuantFormat, form), activation_type=activations,
        weight_type=weights, per_channel=per_channel,
    )
    prepared = prepare(tmp_path / "m.onnx")
    imported = import_model(prepared)
    assert assert_layers_agree(prepared, imported, f32(1, 3, 8, 8)) >= 7
    real = [name.removesuffix("_quant") for name in imported.float_islands]
    if kinds[1] == "QInt8":
        assert not real
    else:
        assert ("conv1" in real) == (not per_channel), "per channel, the tool makes uint8 weights symmetric"


@pytest.mark.parametrize("ends", ["input", "output"])
def test_a_model_that_takes_or_gives_integers(ends: str, tmp_path: Path) -> None:
    """Samples and outputs are the reals that its integers stand for."""
    net = one_conv(uint8=True)
    model = net.model((1, 3, 6, 5))
    sample = f32(1, 3, 6, 5)
    if ends == "input":
        del model.graph.node[0]
        model.graph.input[0].name = "x_q"
        model.graph.input[0].type.tensor_type.elem_type = helper.np_dtype_to_tensor_dtype(np.dtype(np.uint8))
    else:
        assert model.graph.node[-1].op_type == "DequantizeLinear"
        del model.graph.node[-1]
        model.graph.output[0].name = "c_q"
        model.graph.output[0].type.tensor_type.elem_type = helper.np_dtype_to_tensor_dtype(np.dtype(np.uint8))
    prepared, imported = load(tmp_path, model)
    whole_prepared, whole = net.load(tmp_path, (1, 3, 6, 5))
    assert [n.op.name for n in imported.graph.nodes] == op_names(whole)
    np.testing.assert_array_equal(infer(imported, sample), infer(whole, sample))
    assert_layers_agree(whole_prepared, whole, sample)
    assert prepared.literals == whole_prepared.literals


def test_learned_integers_go_back_into_the_model(tmp_path: Path) -> None:
    net = Qdq(uint8=True)
    x, w = net.quantised("x"), net.weight("w", 4, 3, 3, 3, uint8=True)
    net.quantised(net.add("Conv", f"{x} {w} {net.bias('b', 'x', 'w', 4)}", "c"), name="y")
    prepared, imported = net.load(tmp_path, (1, 3, 6, 5))
    learned = {v.name: (v.data // 2).astype(v.data.dtype) for v in imported.params.values() if v.data is not None}
    model = export(prepared.model, {name: v.source.to_onnx(learned[v.name]) for name, v in imported.params.items() if v.source}, "m.onnx")
    onnx.save(model, tmp_path / "learned.onnx")
    again = import_model(prepare(tmp_path / "learned.onnx"))
    for name, value in again.params.items():
        np.testing.assert_array_equal(value.data, learned[imported.params[name].name])
    assert {t.name: t.data_type for t in model.graph.initializer} == {t.name: t.data_type for t in prepared.model.graph.initializer}


def test_a_bias_beyond_int32_is_cut_where_nobody_can_tell(tmp_path: Path) -> None:
    """A dead channel: its weights have a tiny scale, and its bias filled int32."""
    net = one_conv()
    net.arrays["w_s"][1] = 1e-11
    net.arrays["b_s"] = (net.arrays["x_s"] * net.arrays["w_s"]).astype(np.float32)
    net.arrays["b_q"][1] = -(2**31)
    prepared, imported = net.load(tmp_path, (1, 3, 6, 5))
    assert_layers_agree(prepared, imported, f32(1, 3, 6, 5))
    data = imported.params["b_q"].data
    assert data is not None
    assert data[1] > -(2**31) + 1000
    assert imported.cut_biases == ("Conv_c",)


def test_constants_of_an_integer_model_are_still_folded(tmp_path: Path) -> None:
    """A float weight behind a QuantizeLinear becomes stored integers."""
    net = Qdq()
    x, w = net.quantised("x"), net.weight("w", 4, 3, 3, 3)
    net.arrays["w_f"] = (net.arrays.pop("w_q") * net.arrays["w_s"].reshape(-1, 1, 1, 1)).astype(np.float32)
    net.nodes.insert(2, node("QuantizeLinear", "w_f w_s w_z", "w_q", axis=0))
    net.quantised(net.add("Conv", f"{x} {w}", "c"), name="y")
    prepared, imported = net.load(tmp_path, (1, 3, 6, 5))
    assert_layers_agree(prepared, imported, f32(1, 3, 6, 5))
    assert {v.type.dtype for v in imported.graph.stored(Role.CONST) if v.source} == {S8}


@pytest.mark.parametrize("name", ["mcunet5fps_10cls_qdq_int8", "mcunet5fps_imagenet_int8qdq"])
def test_real_models_layer_by_layer(name: str, shared_data: Path) -> None:
    path = shared_data / "models" / f"{name}.onnx"
    if not path.is_file():
        pytest.skip(f"no {path.name}")
    prepared = prepare(path)
    imported = import_model(prepared)
    integers = np.clip(RNG.normal(0, 45, imported.input.onnx_shape), -128, 127).astype(np.int8)
    entry = imported.graph.nodes[0].op
    reals = ((integers.astype(np.int32) - entry.zero_point) * np.float32(entry.scale)).astype(np.float32)  # type: ignore[attr-defined]
    takes = prepared.model.graph.input[0].type.tensor_type.elem_type
    sample = reals if takes == helper.np_dtype_to_tensor_dtype(np.dtype(np.float32)) else integers
    assert assert_layers_agree(prepared, imported, sample, reals) >= 51
    assert not imported.float_islands
