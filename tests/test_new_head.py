# SPDX-License-Identifier: Apache-2.0
"""--new-head: a classifier with other classes, in fp32 and int8 models; it learns, and its layer and weights keep their names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from cli_runs import sentence, succeed
from frontend_models import Arrays, f32, i64, infer, load, model_of, node, scalar
from onnx import numpy_helper
from quant_models import Qdq, assert_layers_agree

from tinytrain import zoo
from tinytrain.compiler import Options, compile_model
from tinytrain.errors import ModelError
from tinytrain.frontend.new_head import NewHead
from tinytrain.frontend.onnx_import import import_model
from tinytrain.frontend.prepare import Prepared, prepare
from tinytrain.gradient.update import Optimiser
from tinytrain.ir.types import S8, S32
from tinytrain.verify.reference import ReferenceModel

POOL = [node("Conv", "x w c", "a", "conv"), node("Relu", "a", "r", "relu"), node("GlobalAveragePool", "r", "g", "pool")]
FEATURES: Arrays = {"w": f32(6, 3, 3, 3), "c": f32(6)}
# what follows the pool, and what is stored for it: old classes are 4
HEADS: dict[str, tuple[list[onnx.NodeProto], Arrays]] = {
    "gemm": ([node("Flatten", "g", "f"), node("Gemm", "f v b", "y", "fc")], {"v": f32(6, 4), "b": f32(4)}),
    "transposed": (
        [node("Flatten", "g", "f"), node("Gemm", "f v b", "l", "fc", transB=1), node("Softmax", "l", "y")],
        {"v": f32(4, 6), "b": f32(1, 4)},
    ),
    "matmul": (
        [node("Flatten", "g", "f"), node("MatMul", "f v", "m", "fc"), node("Add", "b m", "y", "bias")], {"v": f32(6, 4), "b": f32(4)},
    ),
    "without bias": ([node("Flatten", "g", "f"), node("MatMul", "f v", "y", "fc")], {"v": f32(6, 4)}),
    "conv": (
        [node("Conv", "g v b", "l", "fc"), node("Reshape", "l s", "r2"), node("LogSoftmax", "r2", "y")],
        {"v": f32(4, 6, 1, 1), "b": f32(4), "s": i64(-1, 4)},
    ),
    "pool behind": (
        [node("Conv", "r v b", "l", "fc"), node("Clip", "l zero", "k"), node("GlobalAveragePool", "k", "h"), node("Flatten", "h", "y")],
        {"v": f32(4, 6, 1, 1), "b": f32(4), "zero": scalar(0)},
    ),
}


def written(folder: Path, nodes: list[onnx.NodeProto], arrays: Arrays) -> Path:
    onnx.save(model_of([*POOL, *nodes], {**FEATURES, **arrays}, (1, 3, 8, 8)), path := folder / "m.onnx")
    return path


def stored(prepared: Prepared) -> dict[str, np.ndarray]:
    return {t.name: numpy_helper.to_array(t) for t in prepared.model.graph.initializer}


@pytest.mark.parametrize("classes", [2, 11])
@pytest.mark.parametrize("case", HEADS)
def test_only_the_head_is_new(case: str, classes: int, tmp_path: Path) -> None:
    path = written(tmp_path, *HEADS[case])
    before, after = (prepare(path, new_head=head) for head in (None, NewHead(classes)))
    imported = import_model(after)
    assert imported.graph.outputs[0].type.numel == classes
    assert [n.name for n in after.model.graph.node] == [n.name for n in before.model.graph.node]
    assert set(imported.params) == set(import_model(before).params)
    assert before.hash != after.hash
    old, new = stored(before), stored(after)
    for name in ("w", "c"):
        np.testing.assert_array_equal(new[name], old[name])
    assert new["v"].size == old["v"].size // 4 * classes
    assert 0.5 < 4 * new["v"].std() / old["v"].std() < 2
    if "b" in new:
        assert not new["b"].any()
        assert new["b"].size == classes
    sample = f32(1, 3, 8, 8)
    want = onnx.reference.ReferenceEvaluator(after.model).run(None, {"x": sample})[0]
    np.testing.assert_allclose(infer(imported, sample), want, rtol=1e-4, atol=1e-5)


def test_the_seed_decides(tmp_path: Path) -> None:
    path = written(tmp_path, *HEADS["gemm"])
    one, same, other = (stored(prepare(path, new_head=NewHead(7, seed)))["v"] for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert (one != other).all()


BEHIND = [node("Flatten", "g", "f"), node("Gemm", "f v b", "l", "fc")]
WITHOUT: dict[str, tuple[list[onnx.NodeProto], Arrays, str]] = {
    "another op": ([*BEHIND, node("Tanh", "l", "y", "last")], {"v": f32(6, 4), "b": f32(4)}, "there is last (Tanh)"),
    "a sum": ([*BEHIND, node("Add", "l l", "y", "twice")], {"v": f32(6, 4), "b": f32(4)}, "there is twice (Add)"),
    "two readers": (
        [*BEHIND, node("Sigmoid", "l", "k", "gate"), node("Add", "l k", "y", "both")], {"v": f32(6, 4), "b": f32(4)}, "there is both (Add)",
    ),
    "3x3": (
        [node("Conv", "r v", "k", "wide"), node("GlobalAveragePool", "k", "y")], {"v": f32(4, 6, 3, 3)}, "wide is a Conv with a weight of",
    ),
    "depthwise": ([node("Conv", "g v", "y", "deep", group=6)], {"v": f32(6, 1, 1, 1)}, "in 6 groups"),
    "a map": ([node("Conv", "r v", "y", "dense")], {"v": f32(4, 6, 1, 1)}, "dense (Conv) makes 4 channels of its 144 values"),
    "no layer": ([node("Relu", "g", "y", "end")], {}, "conv is a Conv with a weight of shape (6, 3, 3, 3) in 1 groups"),
    "shared": (
        [node("Flatten", "g", "f"), node("Gemm", "f v", "h", "one"), node("Gemm", "h v", "y", "two")], {"v": f32(6, 6)},
        "two (Gemm) shares v",
    ),
}


@pytest.mark.parametrize("case", WITHOUT)
def test_a_model_without_a_classifier(case: str, tmp_path: Path) -> None:
    nodes, arrays, found = WITHOUT[case]
    with pytest.raises(ModelError) as refused:
        prepare(written(tmp_path, nodes, arrays), new_head=NewHead(3))
    (text,) = refused.value.sentences
    assert "m.onnx has no classifier to replace: on the way back from its output y" in text
    assert found in text
    assert refused.value.hint == "Leave out --new-head, or export the model with such a last layer."


def quantised(uint8: bool, per_channel: bool, matmul: bool, shared: bool) -> Qdq:
    """12 numbers → dense → 4 classes → softmax, all integers; `shared`: one zero point for all activations and weights."""
    net = Qdq(uint8)
    x, w = net.quantised("x"), net.weight("w", 12, 4, axis=1 if per_channel else None)
    b = net.bias("b", "x", "w", 4)
    logits = net.add("MatMul", f"{x} {w}", "m") if matmul else net.add("Gemm", f"{x} {w} {b}", "l")
    logits = net.quantised(net.add("Add", f"{logits} {b}", "l") if matmul else logits, -4, 4)
    net.quantised(net.add("Softmax", logits, "p", axis=-1), 0.0, 255 / 256, name="y")
    if shared:
        for n in net.nodes:
            n.input[:] = ["l_z" if name == "w_z" else name for name in n.input]
        net.arrays["l_z"] = net.arrays.pop("w_z")
    return net


@pytest.mark.parametrize(("uint8", "per_channel", "matmul", "shared"), [
    (False, True, False, False), (False, False, True, False), (True, True, True, False), (True, True, False, False),
    (False, False, False, True),
])
def test_int8(uint8: bool, per_channel: bool, matmul: bool, shared: bool, tmp_path: Path) -> None:
    """Integers stay integers; scales are the medians of the old ones; the output keeps its scale."""
    net = quantised(uint8, per_channel, matmul, shared)
    prepared, imported = load(tmp_path, net.model((1, 12)), new_head=NewHead(9))
    assert not imported.float_islands
    assert imported.graph.outputs[0].shape == (9,)
    w, b = imported.params["w_q"].type, imported.params["b_q"].type
    assert (w.shape, w.dtype, b.shape, b.dtype) == ((9, 12), S8, (9,), S32)
    assert w.quant and b.quant
    np.testing.assert_allclose(w.quant.scale, np.median(net.arrays["w_s"]), rtol=1e-6)
    np.testing.assert_allclose(b.quant.scale, np.median(net.arrays["w_s"]) * net.arrays["x_s"], rtol=1e-6)
    assert stored(prepared)["l_s"] == net.arrays["l_s"]
    pytest.importorskip("onnxruntime")
    assert assert_layers_agree(prepared, imported, f32(1, 12)) == 3


@pytest.mark.parametrize("integers", [False, True], ids=["fp32", "int8"])
def test_it_learns_what_the_old_one_could_not(integers: bool, tmp_path: Path) -> None:
    """Six classes where there were four: after a few epochs most samples are told apart."""
    if integers:
        onnx.save(quantised(False, True, False, False).model((1, 12)), tmp_path / "m.onnx")
    else:
        nodes, arrays = [node("Gemm", "x v b", "y", "fc")], {"v": f32(12, 4), "b": f32(4)}
        onnx.save(model_of(nodes, arrays, (1, 12)), tmp_path / "m.onnx")
    rng = np.random.default_rng(0)
    middles = rng.normal(0, 0.7, (6, 12))
    y = rng.integers(0, 6, 120).astype(np.int32)
    x = (middles[y] + rng.normal(0, 0.3, (120, 12))).astype(np.float32)
    options = Options(new_head=NewHead(6), optimiser=Optimiser(0.05))
    model = ReferenceModel(compile_model(tmp_path / "m.onnx", options).program)

    def accuracy() -> float:
        return float(np.mean([model.infer(sample).argmax() == label for sample, label in zip(x, y, strict=True)]))

    assert accuracy() < 0.6
    for _ in range(3):
        for sample, label in zip(x, y, strict=True):
            model.train_step(sample, np.array([label]))
    assert accuracy() > 0.9


def test_command_line(tmp_path: Path) -> None:
    """The way a user finds it: labels that the model has no outputs for, the hint, and the new head."""
    model, data = tmp_path / "m.onnx", tmp_path / "d.npz"
    model.write_bytes(zoo.model("mlp").SerializeToString())
    rng = np.random.default_rng(0)
    np.savez(data, x=rng.normal(size=(30, 64)).astype(np.float32), y=np.arange(30) % 12)
    succeed("compile", model, "-o", tmp_path / "old", "--no-build")
    text = sentence("train", tmp_path / "old", "--data", data)
    assert "label 10 of sample 10 is out of range; the model has 10 outputs, expected 0 to 9." in text
    assert "Count classes from 0, or compile the model with --new-head 12." in text
    succeed("compile", model, "-o", tmp_path / "new", "--new-head", 12, "--head-seed", 5)
    assert "loss" in succeed("train", tmp_path / "new", "--data", data, "--lr", 0.05, "--epochs", 3)
    learned = onnx.load(tmp_path / "new" / "learned.onnx")
    assert [d.dim_value for d in learned.graph.output[0].type.tensor_type.shape.dim] == [1, 12]
