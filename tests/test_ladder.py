# SPDX-License-Identifier: Apache-2.0
"""--method ladder: a side network beside a frozen model, fp32 or int8. It changes nothing before it learns, and nothing else learns."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from ctypes_model import Library, assert_learns_as_reference
from frontend_models import Arrays, f32, i64, infer, model_of, node
from quant_models import Qdq
from test_traces import assert_boards_equal_twins, need

from tinytrain import zoo
from tinytrain.compiler import Compiled, Options, compile_model, load_model
from tinytrain.emit.golden import golden_vectors
from tinytrain.errors import ModelError, SchemeError, TinytrainError
from tinytrain.frontend.new_head import NewHead
from tinytrain.gradient.methods import method
from tinytrain.gradient.update import Optimiser
from tinytrain.ir.types import Role

LADDER = Options(method="ladder:2", optimiser=Optimiser(0.01))


def int8_residual(softmax: bool = False) -> onnx.ModelProto:
    """conv → (expanded 1x1 → 1x1) + → pool → dense, all integers between real ends."""
    net = Qdq()
    x = net.quantised("x")
    layer = f"{x} {net.weight('w', 8, 3, 3, 3)} {net.bias('b', 'x', 'w', 8)}"
    first = net.quantised(net.add("Conv", layer, "first", strides=[2, 2]), -1, 3)
    wide = net.quantised(net.add("Relu", net.add("Conv", f"{first} {net.weight('v', 24, 8, 1, 1)}", "wide"), "relu"), 0, 4)
    back = net.quantised(net.add("Conv", f"{wide} {net.weight('u', 8, 24, 1, 1)}", "back"))
    added = net.quantised(net.add("Add", f"{first} {back}", "added"), -4, 4)
    row = net.add("Flatten", net.quantised(net.add("GlobalAveragePool", added, "pool"), -4, 4), "row")
    end = net.quantised(net.add("Gemm", f"{row} {net.weight('h', 4, 8)}", "head", transB=1), -4, 4, name="p" if softmax else "y")
    if softmax:
        net.quantised(net.add("Softmax", end, "s", axis=-1), 0.0, 255 / 256, name="y")
    return net.model((1, 3, 11, 11))


def saved(model: onnx.ModelProto, folder: Path) -> Path:
    onnx.save(model, path := folder / "m.onnx")
    return path


MODELS: dict[str, Callable[[], onnx.ModelProto]] = {
    "mlp": lambda: zoo.model("mlp"), "cnn": lambda: zoo.model("cnn"), "gesture": lambda: zoo.model("gesture"),
    "int8": int8_residual, "int8 softmax": lambda: int8_residual(softmax=True),
}


@pytest.fixture(params=MODELS)
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return saved(MODELS[request.param](), tmp_path)


def test_learns_as_the_reference(path: Path, tmp_path: Path) -> None:
    assert_learns_as_reference(Library(compile_model(path, LADDER), tmp_path))


def test_changes_nothing_before_it_learns(path: Path) -> None:
    plain, ladder = (load_model(path, Options(method=name))[1] for name in ("backprop", "ladder:2"))
    sample = f32(*plain.input.onnx_shape)
    # that of int8 softmax: it is not rounded any more
    np.testing.assert_allclose(infer(ladder, sample), infer(plain, sample), rtol=0, atol=1 / 128)


def test_only_ladder_and_last_layer_learn(path: Path) -> None:
    compiled = compile_model(path, LADDER)
    (scheme,) = compiled.schemes
    own, *side = scheme.layers
    assert own in ("fc", "fc3", "Gemm_head")
    assert all(name.startswith("ladder_") for name in side)
    trained = {v.source.initializer for v in compiled.program.stored(Role.PARAM) if v.source}
    assert {name for name in trained if name.startswith("ladder_")} == {f"{name}.weight" for name in side}
    train = compiled.program.entries["train"]
    backward = [n for n in train.nodes if "grad_x" in n.op.name]
    assert not [n.origin for n in backward if not n.origin.startswith("ladder_")]


def test_reads_narrow_maps_that_all_paths_go_through(tmp_path: Path) -> None:
    """The expanded map and the one beside the sum are none; a map is pooled as int8."""
    prepared, imported = load_model(saved(int8_residual(), tmp_path), LADDER)
    steps = {n.name: n for n in prepared.model.graph.node}
    assert [steps[f"ladder_{i}_pool"].input[0] for i in (1, 2)] == ["first_d", "added_d"]
    assert "ladder_3" not in steps
    pools = [n for n in imported.graph.nodes if n.origin.startswith("ladder_") and "pool" in n.op.name]
    assert [n.inputs[0].type.dtype.tag for n in pools] == ["s8", "s8"]


def test_with_a_new_head(tmp_path: Path) -> None:
    model = saved(int8_residual(), tmp_path)
    compiled = compile_model(model, Options(method="ladder:2", new_head=NewHead(7)))
    assert compiled.program.entries["infer"].outputs[0].type.numel == 7


def test_keeps_a_ladder_that_is_there(tmp_path: Path) -> None:
    first = compile_model(saved(zoo.model("cnn"), tmp_path), LADDER)
    again = compile_model(saved(first.prepared.model, tmp_path), LADDER)
    assert [n.name for n in again.prepared.model.graph.node] == [n.name for n in first.prepared.model.graph.node]
    assert again.schemes == first.schemes


@pytest.mark.parametrize("kind", ["cnn", "int8"])
def test_boards_equal_the_host_twin_bit_for_bit(kind: str, tmp_path: Path) -> None:
    path = saved(MODELS[kind](), tmp_path)

    def compiled(board: str) -> Compiled:
        return compile_model(path, Options(board=board, method="ladder:2", optimiser=Optimiser(0.01)))

    boards = ["mps2-an386", "mps2-an500", "riscv-virt"]
    for board in boards:
        need(board)
    assert_boards_equal_twins(boards, compiled, golden_vectors(compiled("host").program, steps=6), tmp_path)


POOL = [node("Conv", "x w", "a", "conv"), node("GlobalAveragePool", "a", "g", "pool")]
REFUSED: dict[str, tuple[list[onnx.NodeProto], Arrays, str]] = {
    "a map": ([node("Conv", "x w", "y", "conv")], {"w": f32(4, 3, 3, 3)}, "y has the shape"),
    "nothing on all paths": (
        [node("Flatten", "x", "f"), node("Gemm", "f v", "a", "one"), node("Gemm", "f v", "b", "two"), node("Add", "a b", "y", "sum")],
        {"v": f32(192, 4)}, "no map or row of features lies on all paths through it",
    ),
    "channels last": (
        [node("Transpose", "x", "t", perm=[0, 2, 3, 1]), node("MatMul", "t w", "m"), node("Reshape", "m s", "f"), node("Gemm", "f v", "y")],
        {"w": f32(3, 2), "s": i64(1, -1), "v": f32(128, 4)}, "no map or row of features",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_said(case: str, tmp_path: Path) -> None:
    nodes, arrays, found = REFUSED[case]
    with pytest.raises(ModelError, match="--method ladder does not fit") as refused:
        compile_model(saved(model_of(nodes, arrays, (1, 3, 8, 8)), tmp_path), LADDER)
    assert found in str(refused.value)
    assert "expected" in str(refused.value)


def test_options_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SchemeError, match="ladder trains what it puts beside"):
        compile_model(saved(zoo.model("cnn"), tmp_path), Options(method="ladder", scheme="last:2"))
    for argument in ("0", "x", "8:", "8:0", "8:2:1", "99999"):
        with pytest.raises(TinytrainError, match="by how much the side network is narrower"):
            method(f"ladder:{argument}")


def test_numbers_that_differ_from_the_ladder_that_is_there_are_refused(tmp_path: Path) -> None:
    first = compile_model(saved(zoo.model("cnn"), tmp_path), LADDER)
    path = saved(first.prepared.model, tmp_path)
    for same in ("ladder", "ladder:2", "ladder:2:2", "ladder:2:9"):
        assert compile_model(path, Options(method=same)).schemes == first.schemes
    for other in ("ladder:4", "ladder:2:1"):
        with pytest.raises(ModelError, match=rf"--method {other} is not what .* has: a ladder of 8 channels beside 16"):
            compile_model(path, Options(method=other))


@pytest.mark.parametrize("key", ["ladder", "cascaded"])
def test_layers_of_its_own_that_are_called_alike_are_refused(key: str, tmp_path: Path) -> None:
    model = zoo.model("cnn")
    next(node for node in model.graph.node if node.name == "conv2").name = f"{key}_conv2"
    with pytest.raises(ModelError, match=f"--method {key} does not fit .* it has a node '{key}_conv2' of its own"):
        compile_model(saved(model, tmp_path), Options(method=key))
