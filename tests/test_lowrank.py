# SPDX-License-Identifier: Apache-2.0
"""--method lowrank: adapters beside frozen weights, fp32 or int8; they change nothing before they learn, and only they and the head do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ctypes_model import Library, assert_learns_as_reference
from frontend_models import f32, infer
from onnx_models import ModelMaker
from test_ladder import MODELS, saved
from test_traces import assert_boards_equal_twins

import tinytrain
from tinytrain.compiler import Compiled, Options, compile_model, load_forward, load_model
from tinytrain.emit.golden import golden_vectors
from tinytrain.errors import ModelError, SchemeError, TinytrainError
from tinytrain.gradient.methods import method
from tinytrain.gradient.update import Optimiser
from tinytrain.ir.types import Array, Role
from tinytrain.schemes.scheme import Scheme, Select
from tinytrain.search.ranks import in_order, ladders

LOWRANK = Options(method="lowrank:1", optimiser=Optimiser(0.01))
ADAPTED = {
    "mlp": {"fc1", "fc2"}, "cnn": {"conv1", "conv2"}, "gesture": {"conv1", "conv2"},
    "int8": {"Conv_first", "Conv_wide", "Conv_back"},
}


@pytest.fixture(params=ADAPTED)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_learns_as_the_reference(kind: str, tmp_path: Path) -> None:
    assert_learns_as_reference(Library(compile_model(saved(MODELS[kind](), tmp_path), LOWRANK), tmp_path))


def test_changes_nothing_before_it_learns(kind: str, tmp_path: Path) -> None:
    path = saved(MODELS[kind](), tmp_path)
    plain, adapted = (load_model(path, Options(method=name))[1] for name in ("backprop", "lowrank:1"))
    sample = f32(*plain.input.onnx_shape)
    np.testing.assert_array_equal(infer(adapted, sample), infer(plain, sample))


def test_only_adapters_and_last_layer_learn(kind: str, tmp_path: Path) -> None:
    compiled = compile_model(saved(MODELS[kind](), tmp_path), LOWRANK)
    own, *added = compiled.schemes[0].layers
    assert own in ("fc", "fc3", "Gemm_head")
    assert set(added) == {name + end for name in ADAPTED[kind] for end in ("_down", "_up")}
    trained = {v.source.initializer for v in compiled.program.stored(Role.PARAM) if v.source}
    assert {f"{name}.weight" for name in added} <= trained
    assert len(trained) <= len(added) + 2


def test_the_scheme_says_which_layers(tmp_path: Path) -> None:
    path = saved(MODELS["cnn"](), tmp_path)
    compiled = compile_model(path, Options(method="lowrank:1", scheme="last:2"))
    assert list(compiled.schemes[0].layers) == ["fc", "conv2_down", "conv2_up"]
    again = compile_model(saved(compiled.prepared.model, tmp_path), Options(method="lowrank:1", scheme="last:2"))
    assert again.schemes == compiled.schemes
    assert len(again.prepared.model.graph.node) == len(compiled.prepared.model.graph.node)


def test_boards_equal_the_host_twin_bit_for_bit(tmp_path: Path) -> None:
    path = saved(MODELS["int8"](), tmp_path)

    def compiled(board: str) -> Compiled:
        return compile_model(path, Options(board=board, method="lowrank:1", optimiser=Optimiser(0.01)))

    boards = ["mps2-an386", "mps2-an500", "riscv-virt"]
    assert_boards_equal_twins(boards, compiled, golden_vectors(compiled("host").program, steps=6), tmp_path)


def test_what_does_not_fit_is_said(tmp_path: Path) -> None:
    path = saved(MODELS["cnn"](), tmp_path)
    for name, scheme in (("lowrank:1", "head"), ("lowrank:1", "bias"), ("lowrank:999", "full")):
        with pytest.raises(SchemeError, match="gives no layer of this scheme an adapter"):
            compile_model(path, Options(method=name, scheme=scheme))
    for argument in ("0", "x", "4:", "a=0", "a=1,", "a=1,b", "a=1,a=2"):
        with pytest.raises(TinytrainError, match=r"or a rank, 1 to 9,999"):
            method(f"lowrank:{argument}")
    wrong = {
        "conv3=1": "gives rank 1 to layer 'conv3', which the model does not have", "conv1=1": "whose weight the scheme does not name",
        "fc=1": "has no adapter: it is the last", "conv2=99": "would be no smaller than its weight above 13",
    }
    for name, why in wrong.items():
        with pytest.raises(SchemeError, match=why):
            compile_model(path, Options(method=f"lowrank:{name}", scheme="last:2"))


# --- ranks that samples choose --------------------------------------------------------------------------------------


def test_layers_have_the_ranks_that_are_given(tmp_path: Path) -> None:
    assert method("lowrank:a=1,b,c=2").text == "lowrank:a=1,b,c=2"                # type: ignore[attr-defined]
    compiled = compile_model(saved(MODELS["cnn"](), tmp_path), Options(method="lowrank:conv2=3"))
    assert list(compiled.schemes[0].layers) == ["fc", "conv2_down", "conv2_up"]
    shapes = {v.source.initializer: v.shape for v in compiled.program.stored(Role.PARAM) if v.source}
    assert shapes["conv2_up.weight"] == (16, 1, 1, 3)


def samples(count: int = 40) -> tuple[Array, Array]:
    random = np.random.default_rng(0)
    return random.normal(0, 1, (count, 1, 8, 8)).astype(np.float32), random.integers(0, 10, count)


@pytest.mark.parametrize("kind", ["cnn", "int8"])
def test_samples_choose_as_many_ranks_as_there_is_room_for(kind: str, tmp_path: Path) -> None:
    path = saved(MODELS[kind](), tmp_path)
    shape = load_model(path, Options())[1].input.onnx_shape
    x = np.random.default_rng(0).normal(0, 1, (20, *shape[1:])).astype(np.float32)
    y, found = np.arange(20) % 4, []
    least, most = (_compiled(path, name).room.ram_bytes for name in ("lowrank:1", "lowrank:3"))   # type: ignore[union-attr]
    for budget in (least + 400, most, 2 * most):
        compiled = tinytrain.load(path).compile("mps2-an386", method="lowrank:auto", budget=budget, calibration=(x, y)).compiled
        assert compiled.room is not None and compiled.room.ram_bytes <= budget
        found.append(sum(rank for _, rank in method(compiled.options.method).ranks))    # type: ignore[attr-defined]
    assert 0 < found[0] <= found[1] < found[2]
    if kind == "int8":                                    # an int8 input takes the same samples
        given = tinytrain.load(path).compile("mps2-an386", method="lowrank:auto", budget=most, calibration=(x, y), int8_input=True)
        bounds = tinytrain.load(path).compile("mps2-an386", method="lowrank:auto", budget=most, calibration=(x, y))
        assert given.compiled.options.method == bounds.compiled.options.method


def _compiled(path: Path, name: str) -> Compiled:
    return compile_model(path, Options(board="mps2-an386", method=name))


def test_a_gradient_of_rank_one_asks_for_rank_one(tmp_path: Path) -> None:
    forward = load_forward(saved(MODELS["mlp"](), tmp_path), Options())[2]
    outer, both = np.outer(np.ones(4), np.arange(3)), np.eye(4, 3)
    one, other = ladders(forward, {"fc1": outer, "fc2": both}, {"fc1": 2, "fc2": 2})
    np.testing.assert_allclose(one.worth, [20, 0], atol=1e-12)
    np.testing.assert_allclose(other.worth, [1, 1])
    assert one.rank_bytes == 4 * 7 and one.first_bytes == 4 * 64
    assert [(ladder.layer, more) for ladder, more in in_order([one, other])] == [("fc1", 1), ("fc2", 2), ("fc1", 1)]


def test_ranks_ask_for_samples_and_bounds(tmp_path: Path) -> None:
    path = saved(MODELS["cnn"](), tmp_path)
    model, given = tinytrain.load(path), {"method": "lowrank:auto", "calibration": samples()}
    with pytest.raises(TinytrainError, match="found no --data"):
        model.compile("mps2-an386", method="lowrank:auto")
    with pytest.raises(SchemeError, match="neither --budget nor a board"):
        model.compile(**given)                            # type: ignore[arg-type]
    with pytest.raises(SchemeError, match=r"an adapter of rank 1 beside 'conv\d' do not fit 9,000 bytes"):
        model.compile("mps2-an386", budget=9000, **given)  # type: ignore[arg-type]
    with pytest.raises(SchemeError, match="fills the budget by itself"):
        model.compile("mps2-an386", "last:auto", **given)  # type: ignore[arg-type]
    with pytest.raises(SchemeError, match="finds no layer to adapt"):
        model.compile("mps2-an386", "head", **given)      # type: ignore[arg-type]
    with pytest.raises(SchemeError, match="chooses ranks by samples under a budget"):
        compile_model(path, Options(method="lowrank:auto"))


# --- models that have adapters --------------------------------------------------------------------------------------


def test_adapters_that_are_there_get_none_and_others_are_added(tmp_path: Path) -> None:
    adapted = compile_model(saved(MODELS["cnn"](), tmp_path), Options(method="lowrank:3", scheme="last:2")).prepared.model
    path = saved(adapted, tmp_path)
    again = compile_model(path, Options(method="lowrank:3", scheme="last:2"))
    assert list(again.schemes[0].layers) == ["fc", "conv2_down", "conv2_up"]
    wider = compile_model(path, Options(method="lowrank:conv1=1", scheme="last:3"))
    assert set(wider.schemes[0].layers) == {"fc", "conv1_down", "conv1_up", "conv2_down", "conv2_up"}
    assert [node.name for node in wider.prepared.model.graph.node if "down" in node.name] == ["conv1_down", "conv2_down"]


def test_ranks_that_differ_from_those_that_are_there_are_refused(tmp_path: Path) -> None:
    path = saved(compile_model(saved(MODELS["cnn"](), tmp_path), Options(method="lowrank:3")).prepared.model, tmp_path)
    for same in ("lowrank", "lowrank:3", "lowrank:conv2=3"):
        assert len(compile_model(path, Options(method=same)).schemes[0].layers) == 5
    for name, layer in (("lowrank:1", "conv."), ("lowrank:conv2=1", "conv2")):
        with pytest.raises(SchemeError, match=f"asks for rank 1 in '{layer}': it has an adapter of rank 3"):
            compile_model(path, Options(method=name))


def test_layers_of_its_own_that_are_called_alike_are_refused(tmp_path: Path) -> None:
    model = MODELS["cnn"]()
    next(node for node in model.graph.node if node.name == "conv2").name = "conv1_down"
    with pytest.raises(ModelError, match="'conv1_down' is called as what the method adds"):
        compile_model(saved(model, tmp_path), LOWRANK)


def test_parts_of_weights_are_refused(tmp_path: Path) -> None:
    scheme = Scheme({"conv2": {"weight": Select(0.25)}, "fc": {"weight": Select(0.5)}})
    with pytest.raises(SchemeError, match="takes a part of the weight of conv2"):
        compile_model(saved(MODELS["cnn"](), tmp_path), Options(method="lowrank:1", scheme=scheme))
    whole = Scheme({"conv2": {"weight": Select()}, "fc": {"weight": Select(0.5)}})
    compiled = compile_model(saved(MODELS["cnn"](), tmp_path), Options(method="lowrank:1", scheme=whole))
    assert compiled.schemes[0].layers["fc"] == {"weight": Select(0.5)}


def test_samples_choose_ranks_beside_layers_without_a_weight(tmp_path: Path) -> None:
    m = ModelMaker(1, 2, 6, 6)
    m.conv(6, 2, pads=[1] * 4)
    m.node("Relu")
    m.batch_norm(6)
    m.conv(8, 6, pads=[1] * 4)
    m.node("Flatten")
    m.dense(3, 8 * 36)
    random = np.random.default_rng(0)
    given = random.normal(0, 1, (12, 2, 6, 6)).astype(np.float32), np.arange(12) % 3
    options = {"method": "lowrank:auto", "keep_batchnorm": True}
    found = tinytrain.load(saved(m.model(), tmp_path)).compile("mps2-an386", budget=60_000, calibration=given, **options)  # type: ignore[arg-type]
    compiled = found.compiled
    assert method(compiled.options.method).ranks           # type: ignore[attr-defined]
