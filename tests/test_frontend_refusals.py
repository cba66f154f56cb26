# SPDX-License-Identifier: Apache-2.0
"""Why a file is not taken, in one true sentence, and what to do: each test follows the advice. And what is no reason to refuse one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from cli_runs import sentence, succeed
from frontend_models import Arrays, f32, i64, scalar
from frontend_models import node as n
from frontend_oracle import agrees, save
from onnx import TensorProto, helper, numpy_helper
from quant_models import Qdq

from tinytrain.errors import ModelError
from tinytrain.frontend.onnx_import import import_model
from tinytrain.frontend.prepare import prepare

LAYER = {"w": f32(4, 4), "b": f32(4)}
FC = n("Gemm", "x w b", "z", "fc")


def refusal(path: Path, *options: object) -> str:
    """What `compile` says, without its name."""
    return sentence("compile", path, "--no-build", "-o", path.parent / "never", *options).removeprefix("tinytrain: ")


def compiled(path: Path, *options: object) -> str:
    return succeed("compile", path, "--no-build", "--force", "-o", path.parent / "out", *options)


def change(path: Path, **fields: object) -> Path:
    """The file with the first axes of its input written otherwise."""
    model = onnx.load(path)
    for axis, (field, value) in enumerate(fields.items()):
        setattr(model.graph.input[0].type.tensor_type.shape.dim[axis], field.rstrip("_"), value)
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.parametrize("batch", [-1, -7])
def test_negative_axis_is_open(batch: int, tmp_path: Path) -> None:
    path = change(save(tmp_path / "m.onnx", [n("Relu")], {}, (1, 10)), dim_value=batch)
    agrees(path, f32(1, 10))
    agrees(path, f32(1, 10), shapes={"x": (1, 10)})
    change(path, dim_value=batch, dim_value_=-1)
    assert refusal(path) == (
        f"{path}: input x has the dynamic shape ({batch},-1); every dimension but the batch must be known when compiling.\n"
        "Fix it with --shape x=1,32\n"
    )
    compiled(path, "--shape", "x=1,32", "--loss", "none")


def test_empty_axis(tmp_path: Path) -> None:
    path = change(save(tmp_path / "m.onnx", [n("Relu")], {}, (1, 10)), dim_value=0)
    text = refusal(path)
    assert f"{path}: input x has the shape (0,10); expected a batch of 1 (or a dynamic one) in front.\n" in text
    assert "try --shape x=1,10;" in text
    compiled(path, "--shape", "x=1,10", "--loss", "none")
    change(path, dim_value=1, dim_value_=0)
    assert "input x has the shape (1,0) with an empty axis; expected at least one element in each." in refusal(path)


def test_no_batch_axis(tmp_path: Path) -> None:
    path = save(tmp_path / "m.onnx", [n("MatMul", "x w", "z"), n("Add", "z b")], LAYER, (4,))
    assert refusal(path) == (
        f"{path}: input x has the shape (4) without a batch axis; expected a batch of 1 (or a dynamic one) in front.\n"
        "Export the model for samples of the shape (1,4).\n"
    )
    compiled(save(path, [n("MatMul", "x w", "z"), n("Add", "z b")], LAYER, (1, 4)))
    image = save(path, [n("Unsqueeze", "x a", "u"), n("Conv", "u w")], {"a": i64(0), "w": f32(2, 3, 3, 3)}, (3, 6, 6))
    assert "try --shape x=1,6,6; if it has none, export the model with one." in refusal(image)
    text = refusal(save(path, [n("Relu")], {}, ()))
    assert "input x has the shape () without a batch axis" in text and "of the shape (1)." in text


def test_several_inputs(tmp_path: Path) -> None:
    path = save(tmp_path / "m.onnx", [n("Add", "x other", name="r")], {}, (1, 4), inputs={"other": f32(3, 4)})
    assert refusal(path) == (
        f"{path}: input other has the shape (3,4); expected a batch of 1 (or a dynamic one) in front.\n"
        "If its first axis is the batch, try --shape other=1,4; if it has none, export the model with one.\n"
    )
    path = save(tmp_path / "m.onnx", [n("Add", "x other", name="r")], {}, (4, 4), inputs={"other": f32(3, 4)})
    text = refusal(path, "--shape", "x=1,4", "--shape", "other=1,4")
    assert text.startswith(f"{path}: its inputs have different batches (x 4, other 3); expected the same for all.")
    agrees(save(path, [n("Add", "x other", name="r")], {"other": f32(3, 4)}, (1, 4), inputs={"other": f32(3, 4)}), f32(1, 4))


def test_unsorted_nodes_are_sorted(tmp_path: Path) -> None:
    nodes = [n("Softmax", "r", "y", "last"), n("Relu", "a", "r", "middle"), n("MatMul", "x w", "a", "first")]
    prepared, _ = agrees(disordered(tmp_path / "m.onnx", nodes, LAYER), f32(1, 4), want=None)
    assert [node.name for node in prepared.model.graph.node] == ["first", "middle", "last"]


def disordered(path: Path, nodes: list[onnx.NodeProto], arrays: Arrays) -> Path:
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", 1, (1, 4))], [helper.make_tensor_value_info("y", 1, (1, 4))],
        [numpy_helper.from_array(a, name) for name, a in arrays.items()],
    )
    path.write_bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString())
    return path


def test_a_circle_of_nodes(tmp_path: Path) -> None:
    path = disordered(tmp_path / "m.onnx", [n("Add", "x c", "a", "one"), n("Relu", "a", "c", "two"), n("Relu", "c", "y", "three")], {})
    assert f"{path}: its nodes one → two → one wait for each other in a circle; expected a graph that runs from" in refusal(path)
    path = disordered(path, [n("Add", "x y", "y", "self")], {})
    assert f"{path}: its nodes self → self wait for each other in a circle" in refusal(path)


def test_all_unsupported_ops_are_said_at_once(tmp_path: Path) -> None:
    nodes = [FC, n("Bernoulli", "z", "e0", "draw0"), *(n("Bernoulli", f"e{i}", f"e{i + 1}", f"draw{i + 1}") for i in range(5))]
    nodes += [helper.make_node("Gelu", ["e5"], ["g"], name="gelu", domain="com.microsoft"), n("RandomNormalLike", "g", "h", "act")]
    nodes.append(n("RandomUniformLike", "h"))
    path = save(tmp_path / "m.onnx", nodes, LAYER, (1, 4))
    lines = refusal(path).splitlines()
    assert lines[0].startswith(f"{path}: 9 nodes are of 4 ops that are not supported; expected such as `tinytrain ops` lists")
    assert lines[1:] == [
        "  Bernoulli: draw0, draw1, draw2, draw3 and 2 more", "  com.microsoft.Gelu: gelu", "  RandomNormalLike: act",
        "  RandomUniformLike: RandomUniformLike_9",
        "Replace the layer by supported ones before exporting, or add a handler (docs/adding-an-op.md).",
    ]
    agrees(save(path, [FC, n("Relu", "z")], LAYER, (1, 4)), f32(1, 4))


def test_a_long_list_of_ops_is_cut(tmp_path: Path) -> None:
    strange = [f"Op{i}" for i in range(15)]
    nodes = [helper.make_node(op, [f"v{i}" if i else "x"], [f"v{i + 1}"], domain="made.up") for i, op in enumerate(strange)]
    lines = refusal(save(tmp_path / "m.onnx", [*nodes, n("Relu", "v15")], {}, (1, 4))).splitlines()
    assert len(lines) == 15 and lines[13] == "  made.up.Op12, made.up.Op13, made.up.Op14"


def test_a_curve_is_taken_in_fp32_in_int8_and_behind_an_op_of_floats(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    agrees(save(path, [FC, n("HardSwish", "z")], LAYER, (1, 4)), f32(1, 4))
    net = Qdq()
    net.quantised(net.add("HardSwish", net.quantised("x"), "h"), name="y")
    onnx.save(net.model((1, 4)), path)
    assert "fp32 parts" not in compiled(path, "--loss", "none")
    net = Qdq()
    net.quantised(net.add("HardSigmoid", net.add("LogSoftmax", net.quantised("x"), "l"), "h"), name="y")
    onnx.save(net.model((1, 4)), path)
    assert "fp32 parts LogSoftmax_l, HardSigmoid_h: " in compiled(path, "--loss", "none")


def test_refusals_of_several_nodes(tmp_path: Path) -> None:
    nodes = [n("LeakyRelu", "x", "a", "slope", alpha=-0.5), n("Relu", "a", "b"), n("Pad", "b p", "y", "edge", mode="mirror")]
    path = save(tmp_path / "m.onnx", nodes, {"p": i64(0, 1, 0, 1)}, (1, 4))
    assert refusal(path).splitlines() == [
        f"slope (LeakyRelu) in {path}: alpha is -0.5, expected 0 or more.",
        "A negative slope makes the gradient unclear from the output.",
        f"Refused too: edge (Pad) in {path}: its mode is mirror, expected constant or reflect, edge, wrap.",
    ]


@pytest.mark.parametrize("mode", ["SAME_UPPER", "SAME_LOWER"])
def test_windows_with_gaps_that_lie_anywhere(mode: str, tmp_path: Path) -> None:
    gaps = {"kernel_shape": [1, 1], "strides": [3, 1]}
    text = refusal(save(tmp_path / "m.onnx", [n("MaxPool", name="pool", auto_pad=mode, **gaps)], {}, (1, 2, 3, 3)))
    assert f"its auto_pad is {mode}, and windows of (1, 1) at strides of (3, 1) leave elements out" in text
    compiled(save(tmp_path / "m.onnx", [n("MaxPool", pads=[0] * 4, **gaps)], {}, (1, 2, 3, 3)), "--loss", "none")


def test_refusals_of_every_kind_at_once(tmp_path: Path) -> None:
    """Ops without a handler, a type, an attribute's value and a structure; not what follows from them."""
    nodes = [
        n("CumSum", "x axis", "a", "sums"), n("LeakyRelu", "a", "b", "slope", alpha=-0.5), n("Cast", "b", "c", "wide", to=11),
        n("Mul", "c wide64", "d", "follows"), n("Cast", "d", "e", "back", to=1), n("Bernoulli", "e", "f", "draw"),
        n("Transpose", "f", "g", "turn"), n("GridSample", "image g4", "h", "sample"), n("Reshape", "g s4", "g4", "grid"),
        n("Flatten", "h", "i", "flat"), n("Pad", "i p", "j", "edge", mode="mirror"), n("NonZero", "j", "k", "unknown"),
        n("Transpose", "k", "l", "behind"), n("Cast", "l", name="last", to=1),
    ]
    arrays = {"axis": np.array(1), "s4": i64(1, 2, 1, 2), "p": i64(0, 1, 0, 1), "image": f32(1, 1, 3, 3), "wide64": np.float64(f32(4))}
    path = save(tmp_path / "m.onnx", nodes, arrays, (1, 4))
    lines = [line.replace(str(path), "m") for line in refusal(path).splitlines()]
    assert lines == [
        "m: 3 nodes are of 3 ops that are not supported; expected such as `tinytrain ops` lists.",
        "  CumSum: sums", "  Bernoulli: draw", "  NonZero: unknown", lines[4],
        "Refused too: m: tensor wide64 is of type float64; expected float32.",
        "Refused too: slope (LeakyRelu) in m: alpha is -0.5, expected 0 or more.",
        "Refused too: wide (Cast) in m: it casts to float64, expected float32, or int32 and int64 of what counts.",
        "Refused too: sample (GridSample) in m: its grid is computed by the model (g4), expected a constant.",
        "Refused too: edge (Pad) in m: its mode is mirror, expected constant or reflect, edge, wrap.",
    ]


@pytest.mark.parametrize("kind", [np.int16, np.uint16])
def test_sixteen_bits(kind: type, tmp_path: Path) -> None:
    def model(dtype: type) -> Path:
        nodes = [n("QuantizeLinear", "x s zero", "q", "xq"), n("DequantizeLinear", "q s zero", "d"), n("Gemm", "d w b", name="fc")]
        return save(tmp_path / "m.onnx", nodes, LAYER | {"s": scalar(0.01), "zero": np.array(0, dtype)}, (1, 4), opset=21, ir=10)

    path = model(kind)
    assert refusal(path) == (
        f"{path}: tensor zero is of type {np.dtype(kind)}; expected int8 or uint8 where a model is quantised.\n"
        "Quantise to 8 bits; `tinytrain quantize` does that with the float32 model.\n"
    )
    compiled(model(np.int8))


def test_dropout_in_training_mode(tmp_path: Path) -> None:
    path = save(tmp_path / "m.onnx", [FC, n("Dropout", "z r t", name="drop")], LAYER | {"r": scalar(0.5), "t": np.array(True)}, (1, 4))
    said = "note       drop (Dropout) is in training mode, but passes everything on; --dropout trains with it\n"
    assert said in compiled(path)
    assert said not in compiled(path, "--dropout")
    assert any(node.op.name == "dropout" for node in import_model(prepare(path), dropout=True).graph.nodes)
    silent = save(path, [FC, n("Dropout", "z r t")], LAYER | {"r": scalar(0.5), "t": np.array(False)}, (1, 4))
    assert "training mode" not in compiled(silent)


@pytest.mark.parametrize("loss", ["ce", "ce-soft"])
def test_one_output_has_no_classes(loss: str, tmp_path: Path) -> None:
    path = save(tmp_path / "m.onnx", [n("MatMul", "x w")], {"w": f32(4, 1)}, ("N", 4))
    text = refusal(path, "--loss", loss)
    assert f"m: loss {loss} does not fit the output of shape (1,): " in text
    assert "two classes or more are expected.\nTry --loss mse or bce or huber or l1, or end the model in one row of class scores.\n" in text
    for other in ("mse", "bce"):
        compiled(path, "--loss", other)
    compiled(path, "--new-head", 2, "--loss", "ce")


def test_output_that_is_the_input(tmp_path: Path) -> None:
    path = save(tmp_path / "m.onnx", [n("Relu")], {}, (1, 4))
    model = onnx.load(path)
    model.graph.output[0].name = "x"
    path.write_bytes(model.SerializeToString())
    assert f"{path}: output x is its input; expected a model that computes something." in refusal(path)


def test_damaged_tensors(tmp_path: Path) -> None:
    """Fewer elements than there are data, also where they are integers; external data in a file that has no name."""
    path = save(tmp_path / "m.onnx", [n("Reshape", "x s")], {"s": i64(1, 2, 2)}, (1, 4))
    model = onnx.load(path)
    model.graph.initializer[0].dims[0] = 2
    path.write_bytes(model.SerializeToString())
    assert f"{path}: tensor s of shape (2) is damaged: " in refusal(path)
    tensor = model.graph.initializer[0]
    tensor.dims[0] = 3
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="w\0.bin")
    path.write_bytes(model.SerializeToString())
    assert f"{path}: is damaged or of another kind (embedded null byte); expected the data of tensor s in a file beside" in refusal(path)


def test_what_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is no file; expected an ONNX file"):
        prepare(tmp_path)
