# SPDX-License-Identifier: Apache-2.0
"""Models of opset 6 to 12, IR 3 among them: converted, said, with their names, and equal to what onnxruntime makes of the old file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from cli_runs import sentence, succeed
from frontend_models import Arrays, f32, i64, norm_arrays, scalar
from frontend_models import node as n
from frontend_oracle import agrees, save, truth
from onnx import helper

from tinytrain.errors import ModelError
from tinytrain.frontend.export import export
from tinytrain.frontend.prepare import prepare

CONV = {"w": f32(3, 2, 3, 3), "c": f32(3)}
CASES: dict[str, tuple[list[onnx.NodeProto], Arrays, tuple[int, ...], tuple[int, ...]]] = {
    "norm": ([n("BatchNormalization", "x g b m v", name="bn", epsilon=1e-3)], norm_arrays(4), (1, 4, 5, 5), (7, 8, 9, 12)),
    "norm per channel": ([n("BatchNormalization", "x g b m v", spatial=1)], norm_arrays(4), (1, 4, 5, 5), (7, 8)),
    "dropout": ([n("Dropout", "x", "a", "d", ratio=0.3), n("Relu", "a")], {}, (1, 4), (7, 10, 11)),
    "dropout with an operand": ([n("Dropout", "x r", "a", "d"), n("Relu", "a")], {"r": scalar(0.3)}, (1, 4), (12,)),
    "clip": ([n("Clip", min=-0.5, max=0.7)], {}, (1, 9), (7, 9, 10)),
    "clip at one end": ([n("Clip", min=-0.5)], {}, (1, 9), (7, 9, 10)),
    "clip with operands": ([n("Clip", "x lo hi")], {"lo": scalar(-0.5), "hi": scalar(0.5)}, (1, 9), (11, 12)),
    "pad": ([n("Pad", pads=[0, 0, 1, 1, 0, 0, 1, 2], value=0.5)], {}, (1, 2, 4, 4), (7, 9, 10)),
    "pad with operands": ([n("Pad", "x p")], {"p": i64(0, 0, 1, 1, 0, 0, 1, 2)}, (1, 2, 4, 4), (11, 12)),
    "softmax over all axes from one on": ([n("Softmax", axis=1)], {}, (1, 3, 4), (7, 10, 11, 12)),
    "softmax by default": ([n("Softmax")], {}, (1, 3, 4), (7, 12)),
    "softmax over the last axis": ([n("Softmax", axis=2)], {}, (1, 3, 4), (7, 12)),
    "softmax of rows": ([n("Softmax")], {}, (1, 4), (7, 11, 12)),
    "log softmax over all axes from one on": ([n("LogSoftmax", axis=1)], {}, (1, 3, 4), (7, 12)),
    "squeeze": ([n("Squeeze", axes=[2])], {}, (1, 3, 1, 4), (7, 11, 12)),
    "unsqueeze": ([n("Unsqueeze", axes=[1])], {}, (1, 3, 4), (7, 11, 12)),
    "mean": ([n("ReduceMean", axes=[1], keepdims=0)], {}, (1, 3, 4), (7, 11, 12)),
    "gemm": ([n("Gemm", "x w c", transB=1)], {"w": f32(3, 4), "c": f32(3)}, (1, 4), (7, 9, 11, 12)),
    "gemm with one bias for all": ([n("Gemm", "x w c", alpha=0.5, beta=2.0)], {"w": f32(4, 3), "c": f32(1)}, (1, 4), (7, 9, 12)),
    "per channel": ([n("Mul", "x c")], {"c": f32(3, 1)}, (1, 3, 4), (7, 12)),
    "reshape": ([n("Reshape", "x s")], {"s": i64(1, -1)}, (1, 3, 4), (7, 12)),
    "flatten": ([n("Flatten")], {}, (1, 3, 4), (7, 8, 9, 11)),
    "max": ([n("MaxPool", kernel_shape=[2, 2], strides=[2, 2], auto_pad="SAME_UPPER")], {}, (1, 3, 5, 5), (7, 8, 10, 12)),
    "average": ([n("AveragePool", kernel_shape=[2, 2], strides=[1, 1], pads=[1, 1, 0, 0])], {}, (1, 3, 5, 5), (7, 10, 11)),
    "conv": ([n("Conv", "x w c", pads=[1, 1, 1, 1])], CONV, (1, 2, 4, 4), (7, 10, 11)),
    "concat": ([n("Relu", output="a"), n("Concat", "x a", axis=1)], {}, (1, 2, 4), (7, 11)),
    "slope": ([n("LeakyRelu", alpha=0.2)], {}, (1, 9), (7, 12)),
    "transpose": ([n("Transpose", perm=[0, 2, 1])], {}, (1, 4, 3), (7, 12)),
    "global": ([n("GlobalAveragePool")], {}, (1, 4, 3, 3), (7, 12)),
}


@pytest.mark.parametrize(("case", "opset"), [(case, opset) for case, (*_, opsets) in CASES.items() for opset in opsets])
def test_converted_model_computes_the_same(case: str, opset: int, tmp_path: Path) -> None:
    nodes, arrays, shape, _ = CASES[case]
    old = opset < 9
    path = save(tmp_path / "m.onnx", nodes, arrays, shape, opset=opset, ir=3 if old else 4, inputs=arrays if old else None)
    prepared, imported = agrees(path, f32(*shape))
    assert imported.notes == (f"converted from opset {opset} to 13",)
    assert all(node.name in {kept.name for kept in prepared.model.graph.node} for node in nodes if node.name)


def old_network(path: Path, opset: int = 8) -> Path:
    """As the first model zoo wrote them: IR 3, every stored tensor an input, a weight that is reshaped, biases per channel."""
    nodes = [
        n("Conv", "x w1", "c1", "conv1", auto_pad="SAME_UPPER"), n("Add", "c1 b1", "a1", "plus1"), n("Relu", "a1", "r1", "relu1"),
        n("MaxPool", "r1", "p1", "pool1", kernel_shape=[2, 2], strides=[2, 2]), n("Reshape", "p1 s1", "f", "flat"),
        n("Reshape", "w2 s2", "w2m", "matrix"), n("MatMul", "f w2m", "l", "times"), n("Add", "l b2", "y", "plus2"),
    ]
    arrays = {
        "w1": f32(4, 1, 3, 3), "b1": f32(4, 1, 1), "s1": i64(1, 64), "w2": f32(4, 4, 4, 5), "s2": i64(64, 5), "b2": f32(1, 5),
    }
    return save(path, nodes, arrays, (1, 1, 8, 8), opset=opset, ir=3, inputs=arrays)


def test_names_survive_and_what_is_learned_goes_back(tmp_path: Path) -> None:
    path, sample = old_network(tmp_path / "m.onnx"), f32(1, 1, 8, 8)
    prepared, imported = agrees(path, sample)
    assert [node.name for node in prepared.model.graph.node] == ["conv1", "plus1", "relu1", "pool1", "flat", "times", "plus2"]
    assert {"w1", "b1", "w2m", "b2"} <= set(imported.params)
    learned = {name: v.data * 1.5 for name, v in imported.params.items() if v.data is not None}
    made = tmp_path / "learned.onnx"
    onnx.save(export(prepared.model, {k: v.source.to_onnx(learned[k]) for k, v in imported.params.items() if v.source}, "m"), made)
    agrees(made, sample)
    assert np.abs(truth(made, sample) - truth(path, sample)).max() > 0.1


def test_compile_says_it(tmp_path: Path) -> None:
    out = succeed("compile", old_network(tmp_path / "m.onnx", 7), "--no-build", "-o", tmp_path / "out", "--scheme", "last:1")
    assert "note       converted from opset 7 to 13\n" in out
    assert (tmp_path / "out" / "model.onnx").is_file()


def test_advice_to_export_again_is_followed(tmp_path: Path) -> None:
    arrays = {"g": f32(2, 3, 3), "b": f32(2, 3, 3), "m": f32(2, 3, 3), "v": np.abs(f32(2, 3, 3)) + 1}
    nodes = [n("BatchNormalization", "x g b m v", name="bn", spatial=0)]
    for opset, said in ((5, "uses opset 5; opset 6 to "), (8, "opset 8 cannot be converted to 13 (")):
        path = save(tmp_path / "m.onnx", nodes, arrays, (1, 2, 3, 3), opset=opset)
        text = sentence("compile", path, "--no-build", "-o", tmp_path / "out")
        assert said in text
        assert text.endswith("Export the model again with opset 13 or newer.\n")
    again = save(tmp_path / "m.onnx", [n("BatchNormalization", "x g b m v", name="bn")], norm_arrays(2), (1, 2, 3, 3), opset=13)
    succeed("compile", again, "--loss", "mse", "--no-build", "-o", tmp_path / "out")


def test_a_graph_inside_is_not_converted(tmp_path: Path) -> None:
    """The converter leaves a subgraph as it is, whose ops then mean something else."""
    branch = helper.make_graph([n("Softmax", output="s", axis=1)], "b", [], [helper.make_tensor_value_info("s", 1, None)])
    nodes = [helper.make_node("If", ["c"], ["y"], name="if", then_branch=branch, else_branch=branch)]
    path = save(tmp_path / "m.onnx", nodes, {"c": np.array(True)}, (1, 3, 4), opset=11)
    with pytest.raises(ModelError, match=r"if \(If\) in .*: opset 11 cannot be converted to 13 \(it has a graph inside\)"):
        prepare(path)
    nodes[0].attribute[0].g.node[0].CopyFrom(n("Softmax", output="s", axis=-1))
    nodes[0].attribute[1].g.CopyFrom(nodes[0].attribute[0].g)
    agrees(save(path, nodes, {"c": np.array(True)}, (1, 3, 4), opset=13), f32(1, 3, 4))


def test_upsample_is_a_resize(tmp_path: Path) -> None:
    path = save(tmp_path / "m.onnx", [n("Upsample", name="up", scales=[1.0, 1.0, 2.0, 2.0])], {}, (1, 2, 3, 3), opset=7)
    agrees(path, f32(1, 2, 3, 3))


@pytest.mark.parametrize("opset", [10, 15, 16])
def test_regions_lay_half_a_pixel_off_until_opset_16(opset: int, tmp_path: Path) -> None:
    arrays = {"r": np.float32([[0.4, 0, 3, 2.2]]), "b": i64(0)}
    path = save(tmp_path / "m.onnx", [n("RoiAlign", "x r b", output_height=2, output_width=2)], arrays, (1, 2, 5, 5), opset=opset)
    agrees(path, f32(1, 2, 5, 5))
