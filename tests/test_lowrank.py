# SPDX-License-Identifier: Apache-2.0
"""--method lowrank: adapters beside frozen weights, fp32 or int8; they change nothing before they learn, and only they and the head do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ctypes_model import Library, assert_learns_as_reference
from frontend_models import f32, infer
from test_ladder import MODELS, saved
from test_traces import assert_boards_equal_twins

from tinytrain.compiler import Compiled, Options, compile_model, load_model
from tinytrain.emit.golden import golden_vectors
from tinytrain.errors import SchemeError, TinytrainError
from tinytrain.gradient.methods import method
from tinytrain.gradient.update import Optimiser
from tinytrain.ir.types import Role

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
    for argument in ("0", "x", "4:", "auto"):
        with pytest.raises(TinytrainError, match="expected a rank, 1 to 9,999"):
            method(f"lowrank:{argument}")
