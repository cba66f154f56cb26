# SPDX-License-Identifier: Apache-2.0
"""What a file computes from constants only is a constant, stored integers stay integers, a batch that a file holds becomes one sample."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from frontend_models import Arrays, f32, i64, scalar
from frontend_models import node as n
from frontend_oracle import agrees, save, truth
from onnx import helper
from quant_models import Qdq, assert_layers_agree

from tinytrain.errors import ModelError
from tinytrain.frontend import fold
from tinytrain.frontend.onnx_import import import_model
from tinytrain.frontend.prepare import prepare
from tinytrain.ir.types import S8, Role


def ops(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


def test_pad_of_legacy_exports(tmp_path: Path) -> None:
    """F.pad as PyTorch wrote it: the pads are made from a ConstantOfShape, turned round and transposed."""
    nodes = [
        n("Shape", "x", "sx"), n("Gather", "sx one", "rank_like"), n("Cast", "torch_pads", "tp", to=7),
        n("ConstantOfShape", "missing", "zeros", name="/ConstantOfShape", value=helper.make_tensor("v", 7, [1], [0])),
        n("Concat", "tp zeros", "all", axis=0), n("Reshape", "all two", "pairs"), n("Slice", "pairs start end axis step", "turned"),
        n("Transpose", "turned", "t", perm=[1, 0]), n("Reshape", "t flat", "raw"), n("Cast", "raw", "pads", to=7),
        n("Pad", "x pads value", "p", "/Pad"), n("Conv", "p w", "y", "/conv"),
    ]
    arrays = {
        "one": i64(1), "torch_pads": np.array([2, 1], np.int32), "missing": i64(4), "two": i64(-1, 2), "start": i64(-1),
        "end": i64(-(2**63) + 1), "axis": i64(0), "step": i64(-1), "flat": i64(-1), "value": scalar(0.25), "w": f32(3, 1, 3),
    }
    prepared, _ = agrees(save(tmp_path / "m.onnx", nodes, arrays, ("N", 1, 8)), f32(1, 1, 8))
    assert ops(prepared.model) == ["Pad", "Conv"]


CHAINS: dict[str, tuple[list[onnx.NodeProto], Arrays]] = {
    "constant of shape": ([n("ConstantOfShape", "s", "w", value=helper.make_tensor("v", 1, [1], [0.5]))], {"s": i64(4, 3)}),
    "two results": ([n("Split", "a", "w rest", axis=1, num_outputs=2)], {"a": f32(4, 6)}),
    "reduced": ([n("ReduceSum", "a axes", "w", keepdims=0)], {"a": f32(2, 4, 3), "axes": i64(0)}),
    "indices": ([n("Gather", "a i", "w", axis=0)], {"a": f32(9, 3), "i": i64(8, 0, 3, 3)}),
    "expanded": ([n("Expand", "a s", "w")], {"a": f32(1, 3), "s": i64(4, 3)}),
    "where": ([n("Where", "m a b", "w")], {"m": np.eye(4, 3) > 0, "a": f32(4, 3), "b": f32(4, 3)}),
    "einsum": ([n("Einsum", "a b", "w", equation="ik,kj->ij")], {"a": f32(4, 2), "b": f32(2, 3)}),
    "bounds": ([n("Clip", "a lo hi", "w")], {"a": f32(4, 3), "lo": scalar(-0.5), "hi": scalar(0.5)}),
    "divided": ([n("Div", "a b", "d"), n("Transpose", "d", "w")], {"a": f32(3, 4), "b": f32(4)}),
}


@pytest.mark.parametrize("case", CHAINS)
def test_any_op_on_constants_is_computed(case: str, tmp_path: Path) -> None:
    nodes, arrays = CHAINS[case]
    nodes = [*nodes, n("MatMul", "x w", "z", "fc"), n("Add", "z c", "y", "bias")]
    path = save(tmp_path / "m.onnx", nodes, arrays | {"c": f32(3)}, (1, 4), opset=18)
    prepared, imported = agrees(path, f32(1, 4))
    assert ops(prepared.model) == ["MatMul", "Add"]
    assert set(imported.params) == {"w", "c"}


def test_stored_tensors_that_are_inputs_are_constants(tmp_path: Path) -> None:
    arrays = {"w": f32(2, 2, 3), "s": i64(4, 3), "c": f32(3)}
    nodes = [n("Reshape", "w s", "m"), n("MatMul", "x m", "z", "fc"), n("Add", "z c", "y", "bias")]
    for opset, ir in ((13, 4), (17, 8), (8, 3)):
        _, imported = agrees(save(tmp_path / "m.onnx", nodes, arrays, (1, 4), opset=opset, ir=ir, inputs=arrays), f32(1, 4))
        assert set(imported.params) == {"m", "c"}


def test_another_view_of_a_stored_bias_is_trained(tmp_path: Path) -> None:
    nodes = [n("MatMul", "x w", "z", "fc"), n("Reshape", "c s", "r"), n("Add", "z r", "y", "bias")]
    _, imported = agrees(save(tmp_path / "m.onnx", nodes, {"w": f32(4, 3), "c": f32(3), "s": i64(1, 3)}, (1, 4)), f32(1, 4))
    assert set(imported.params) == {"w", "r"}


def test_random_numbers_are_no_constants(tmp_path: Path) -> None:
    nodes = [n("RandomNormal", "", "r", "draw", shape=[1, 4]), n("Add", "x r", "y")]
    with pytest.raises(ModelError, match=r"draw \(RandomNormal\) in .*: this op is not supported"):
        import_model(prepare(save(tmp_path / "m.onnx", nodes, {}, (1, 4))))


def test_constants_have_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of some hundred bytes can ask for any number of elements."""
    nodes = [n("Expand", "a s", "w", "grow"), n("MatMul", "x w", "y", "fc")]
    path = save(tmp_path / "m.onnx", nodes, {"a": f32(1), "s": i64(4, 3)}, (1, 4))
    agrees(path, f32(1, 4))
    monkeypatch.setattr(fold, "MOST_ELEMENTS", 11)
    with pytest.raises(ModelError, match=r"grow \(Expand\) in .*: with this constant of 12 elements the model computes more than 11 "):
        prepare(path)


def test_constant_that_cannot_be_computed(tmp_path: Path) -> None:
    nodes = [n("Gather", "a i", "w", "pick"), n("MatMul", "x w", "y", "fc")]
    path = save(tmp_path / "m.onnx", nodes, {"a": f32(4, 3), "i": i64(0, 1, 2, 9)}, (1, 4))
    with pytest.raises(ModelError, match=r"cannot be computed: .*index 9 is out of bounds.*; expected constants that fold"):
        prepare(path)


def quantised_layer(moves: list[onnx.NodeProto], arrays: Arrays, *, axis: int | None, shape: tuple[int, ...], w: str) -> Qdq:
    """x by a weight that is stored in int8 and then moved, to (4, 5)."""
    net = Qdq()
    x = net.quantised("x")
    net.weight("w", *shape, axis=axis)
    net.nodes += moves
    net.arrays |= arrays
    net.quantised(net.add("MatMul", f"{x} {w}", "z"), name="y")
    return net


MOVED = {
    "transposed": ([n("Transpose", "w", "t", perm=[1, 0])], {}, 0, (5, 4), "t"),
    "transposed, one scale": ([n("Transpose", "w", "t", perm=[1, 0])], {}, None, (5, 4), "t"),
    "reshaped": ([n("Reshape", "w s", "r")], {"s": i64(4, 5)}, 2, (2, 2, 5), "r"),
    "transposed twice": ([n("Transpose", "w", "t", perm=[2, 1, 0]), n("Squeeze", "t a", "q")], {"a": i64(1)}, 0, (5, 1, 4), "q"),
}


@pytest.mark.parametrize("case", MOVED)
def test_moved_integers_stay_integers(case: str, tmp_path: Path) -> None:
    moves, arrays, axis, shape, w = MOVED[case]
    net = quantised_layer(moves, arrays, axis=axis, shape=shape, w=w)
    prepared, imported = net.load(tmp_path, (1, 4))
    assert assert_layers_agree(prepared, imported, f32(1, 4)) == 2
    assert [v.type.dtype for v in imported.graph.stored(Role.CONST) if v.source] == [S8]
    assert not imported.float_islands


def test_scales_that_belong_to_no_axis_any_more(tmp_path: Path) -> None:
    """(2, 2, 5) with two scales along its middle axis, as (4, 5): the weight becomes fp32, with the right numbers."""
    net = quantised_layer([n("Reshape", "w s", "r")], {"s": i64(4, 5)}, axis=1, shape=(2, 2, 5), w="r")
    onnx.save(net.model((1, 4)), tmp_path / "m.onnx")
    sample = f32(1, 4)
    _, imported = agrees(tmp_path / "m.onnx", sample)
    assert imported.float_islands == ("MatMul_z",)


@pytest.mark.parametrize("moved", [False, True], ids=["as it is", "transposed"])
def test_weight_of_a_converted_qat_model(moved: bool, tmp_path: Path) -> None:
    """A float weight through QuantizeLinear, the Clip of fewer bits, DequantizeLinear, and maybe a Transpose."""
    net = Qdq()
    x = net.quantised("x")
    net.arrays |= {
        "w": f32(5, 4) if moved else f32(4, 5), "w_s": scalar(0.125), "w_z": np.array(0, np.int8),
        "lo": np.array(-7, np.int8), "hi": np.array(7, np.int8),
    }
    net.nodes += [n("QuantizeLinear", "w w_s w_z", "wq"), n("Clip", "wq lo hi", "wc"), n("DequantizeLinear", "wc w_s w_z", "wd")]
    if moved:
        net.nodes.append(n("Transpose", "wd", "wt"))
    net.quantised(net.add("MatMul", f"{x} {'wt' if moved else 'wd'}", "z"), name="y")
    prepared, imported = net.load(tmp_path, (1, 4))
    assert assert_layers_agree(prepared, imported, f32(1, 4)) == 2
    (weight,) = (v for v in imported.graph.stored(Role.CONST) if v.source)
    assert imported.notes == () and weight.source is not None and weight.source.within == (-7, 7)
    assert weight.type.dtype is S8 and weight.data is not None and np.abs(weight.data).max() == 7


def test_a_weight_that_is_tied_by_a_transpose_is_trained_apart_and_said(tmp_path: Path) -> None:
    """The decoder of an autoencoder that reads the encoder's weight turned round: folding makes two weights of one."""
    nodes = [n("MatMul", "x w", "code", "encoder"), n("Transpose", "w", "turned", perm=[1, 0]), n("MatMul", "code turned", "y", "decoder")]
    path = save(tmp_path / "m.onnx", nodes, {"w": f32(6, 3)}, (1, 6))
    _, imported = agrees(path, f32(1, 6))
    assert imported.notes == ("w is read as w and as turned: they are trained apart",)
    assert set(imported.params) == {"w", "turned"}
    alone = save(path, [*nodes[1:2], n("MatMul", "x turned", "y")], {"w": f32(3, 6)}, (1, 6))
    assert agrees(alone, f32(1, 6))[1].notes == ()


BATCH = 4
LAYER = {"w": f32(24, 5)}
HELD: dict[str, tuple[list[onnx.NodeProto], Arrays, tuple[int, ...]]] = {
    "flattened": ([n("Reshape", "x s", "f"), n("MatMul", "f w")], LAYER | {"s": i64(BATCH, 24)}, (8, 3)),
    "rest": ([n("Reshape", "x s", "f"), n("MatMul", "f w")], LAYER | {"s": i64(BATCH, -1)}, (8, 3)),
    "batch and time": (
        [n("Reshape", "x s", "f"), n("MatMul", "f v", "m"), n("Relu", "m", "r"), n("Reshape", "r back")],
        {"v": f32(3, 5), "s": i64(BATCH * 8, 3), "back": i64(BATCH, 8, 5)}, (8, 3),
    ),
    "twice": (
        [n("Reshape", "x s", "f"), n("Relu", "f", "r"), n("Reshape", "r t", "g"), n("MatMul", "g w")],
        LAYER | {"s": i64(BATCH, 3, 8), "t": i64(BATCH, 24)}, (8, 3),
    ),
    "one shape for two": (
        [n("Reshape", "x s", "f"), n("Relu", "f", "r"), n("Reshape", "r s", "g"), n("MatMul", "g w")],
        LAYER | {"s": i64(BATCH, 24)}, (8, 3),
    ),
    "time first": (
        [n("Transpose", "x", "t", perm=[1, 0, 2]), n("Reshape", "t s", "f"), n("MatMul", "f v", "m"), n("Reshape", "m b", "q"),
         n("Transpose", "q", perm=[1, 0, 2])],
        {"v": f32(3, 5), "s": i64(8 * BATCH, 3), "b": i64(8, BATCH, 5)}, (8, 3),
    ),
}


@pytest.mark.parametrize("case", HELD)
def test_a_batch_that_reshapes_hold_becomes_one(case: str, tmp_path: Path) -> None:
    """Each sample alone gives what it gives in the batch."""
    nodes, arrays, shape = HELD[case]
    path = save(tmp_path / "m.onnx", nodes, arrays, (BATCH, *shape))
    with pytest.raises(ModelError, match=rf"input x has the shape \({BATCH},8,3\).*\n.*try --shape x=1,8,3;"):
        prepare(path)
    samples = f32(BATCH, *shape)
    whole = truth(path, samples)
    for i in range(BATCH):
        agrees(path, samples[i : i + 1], want=whole[i : i + 1], shapes={"x": (1, *shape)})


@pytest.mark.parametrize("node", [
    n("Add", "x held", "y", "sum"), n("Reshape", "x odd", "y", "mixed"), n("ReduceMean", "x", "y", "mean", axes=[0], keepdims=1),
], ids=["constant", "mixed", "mean"])
def test_a_batch_that_something_else_holds_is_refused(node: onnx.NodeProto, tmp_path: Path) -> None:
    """What would compute something else from one sample than from several."""
    path = save(tmp_path / "m.onnx", [node], {"held": f32(BATCH, 6), "odd": i64(3, 2 * BATCH)}, (BATCH, 6))
    with pytest.raises(ModelError, match=rf"{node.name} \({node.op_type}\) in .*: it holds the batch of {BATCH} .*\n.*with a batch of 1\."):
        prepare(path, shapes={"x": (1, 6)})
