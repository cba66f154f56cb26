# SPDX-License-Identifier: Apache-2.0
"""Slow copies of the next layer that teach a block: they follow it by the formula, only where it moves, and are kept as heads are."""

from __future__ import annotations

import ctypes
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from ctypes_model import Library, assert_learns_as_reference
from test_ladder import MODELS
from test_methods import boards_learn, deep, normed, saved

from tinytrain import zoo
from tinytrain.compiler import Options, compile_model, write
from tinytrain.device.project import Project
from tinytrain.emit.golden import Golden, golden_vectors
from tinytrain.errors import ModelError
from tinytrain.gradient.replay import Replay
from tinytrain.gradient.update import Optimiser
from tinytrain.ir.graph import Program
from tinytrain.ir.types import Array, Role
from tinytrain.learn.weights import export_learned, restore
from tinytrain.quantise import lockstep
from tinytrain.quantise.convert import quantise_model
from tinytrain.report.live import Quiet
from tinytrain.schemes.scheme import Scheme, Select
from tinytrain.verify.reference import ReferenceModel

SHARE = np.float32(1 - 0.995)                             # of the way that a copy goes in an update

IN_PART = Scheme({
    "conv1": {"weight": Select(channels=(0, 1, 2, 3), side="out"), "bias": Select()}, "conv2": {"weight": Select(0.5), "bias": Select()},
    "fc": {"weight": Select(0.5)},
})
NOT_THE_SECOND = Scheme({"conv1": {"weight": Select()}, "fc": {"weight": Select(), "bias": Select()}})
CASES = {
    "momentum": Options(optimiser=Optimiser(0.01, 0.9, weight_decay=1e-3)),
    "summed": Options(optimiser=Optimiser(0.01, accumulate=3)),
    "bounded": Options(optimiser=Optimiser(0.01, clip_norm=0.5)),
    "adam": Options(optimiser=Optimiser(0.001, kind="adam")),
    "mean square": Options(loss="mse"),
    "in part": Options(scheme=IN_PART),
    "several": Options(further_schemes=("last:2", IN_PART)),
    "a frozen layer": Options(scheme=NOT_THE_SECOND),
    "all or nothing": Options(guards="step"),
    "halves without masters": Options(dtype="fp16", optimiser=Optimiser(0.01, master=False)),
    "gradients as halves": Options(grad="fp16", optimiser=Optimiser(0.01, accumulate=2)),
    "replay": Options(scheme="last:2", replay=Replay.of("6:fp32")),
}


@pytest.fixture
def cnn(tmp_path: Path) -> Path:
    onnx.save(zoo.model("cnn"), path := tmp_path / "cnn.onnx")
    return path


def three_blocks(options: Options) -> Options:
    return replace(options, method="local-momentum:3")


@pytest.mark.parametrize("case", CASES)
def test_learns_as_the_reference(case: str, cnn: Path, tmp_path: Path) -> None:
    assert_learns_as_reference(Library(compile_model(cnn, replace(CASES[case], method="local-momentum")), tmp_path))


def test_a_softmax_that_the_loss_does_not_contain_stands_behind_copied_scores(tmp_path: Path) -> None:
    m = normed(6, 8)
    m.node("Softmax", axis=-1)
    path = saved(m, tmp_path / "softmax.onnx")
    assert_learns_as_reference(Library(compile_model(path, three_blocks(Options(loss="mse", running_statistics=True))), tmp_path))


# --- the copies ---------------------------------------------------------------------------------------------------


def copies(program: Program) -> dict[str, str]:
    """Of each copy what it follows."""
    return {v.name: v.name.removesuffix("_copy") for v in program.stored(Role.PARAM) if v.name.endswith("_copy")}


def taught(options: Options, cnn: Path) -> tuple[ReferenceModel, dict[str, str], Golden]:
    program = compile_model(cnn, options).program
    return ReferenceModel(program), copies(program), golden_vectors(program, 6)


def kept(model: ReferenceModel) -> dict[str, Array]:
    return {name: array.copy() for name, array in model.parameters().items()}


def test_what_is_copied(cnn: Path) -> None:
    """Each layer but the first, as it is at first; the scheme says what of it. Each copy has a bias beside it."""
    program = compile_model(cnn, three_blocks(Options())).program
    assert sorted(copies(program).values()) == ["conv2_bias", "conv2_weight", "fc_bias", "fc_weight"]
    start = ReferenceModel(program).parameters()
    assert all((start[copy] == start[of]).all() for copy, of in copies(program).items())
    shifts = {v.name: v.shape for v in program.stored(Role.PARAM) if "shift" in v.name}
    assert sorted(shifts.values()) == [(10,), (16,)]
    assert {v.name for v in compile_model(cnn, three_blocks(Options())).program.entries["infer"].stored(Role.PARAM)} == {
        "conv1_weight", "conv1_bias", "conv2_weight", "conv2_bias", "fc_weight", "fc_bias",
    }
    frozen = compile_model(cnn, replace(CASES["a frozen layer"], method="local-momentum")).program
    assert not copies(frozen) and [v.shape for v in frozen.stored(Role.PARAM) if "shift" in v.name] == [(16,)]


@pytest.mark.parametrize("options", [
    Options(optimiser=Optimiser(0.05, 0.9)), Options(scheme=IN_PART), Options(optimiser=Optimiser(0.05, accumulate=3)),
    Options(optimiser=Optimiser(0.01, kind="adam")),
])
def test_copies_move_by_the_formula(options: Options, cnn: Path) -> None:
    """Behind each update, to what that made of the weight; between updates not at all."""
    model, followed, golden = taught(three_blocks(options), cnn)
    assert followed
    for step, (x, target) in enumerate(zip(golden.x, golden.target, strict=True), 1):
        before = kept(model)
        model.train_step(x, target)
        after = model.parameters()
        for copy, of in followed.items():
            moved = step % options.optimiser.accumulate == 0
            np.testing.assert_array_equal(after[copy], before[copy] + SHARE * (after[of] - before[copy]) if moved else before[copy])
            assert (after[of] != before[of]).any() == moved


@pytest.mark.parametrize("dtype", ["fp32", "fp16"])
def test_copies_stay_where_a_step_is_left_out(dtype: str, cnn: Path, tmp_path: Path) -> None:
    """Also behind a few steps, when a copy is not what it follows; on the device too."""
    compiled = compile_model(cnn, three_blocks(Options(dtype=dtype, optimiser=Optimiser(0.05))))
    golden, device = golden_vectors(compiled.program, 3), Library(compiled, tmp_path).instance()
    model = ReferenceModel(compiled.program)
    for x, target in zip(golden.x, golden.target, strict=True):
        model.train_step(x, target)
        device.train_step(x, target)
    before, stored = kept(model), device.stored()
    assert any((before[copy] != before[of]).any() for copy, of in copies(compiled.program).items())
    x, target = golden.x[0], golden.target[0]
    large, loss = np.full_like(x, np.inf if dtype == "fp32" else 1e30), np.empty(1, np.float32)
    model.train_step(large, target)
    given = (array.ctypes.data_as(ctypes.c_void_p) for array in (large, target, loss))
    assert (device.library.call("train_step", ctypes.byref(device.context), *given) == 0) == (dtype == "fp16")     # that waits for more
    model.skip_below = 1e9
    device.library.call("set_skip_below", ctypes.byref(device.context), ctypes.c_float(1e9))
    model.train_step(x, target)
    device.train_step(x, target)
    for name, array in before.items():
        np.testing.assert_array_equal(model.parameters()[name], array)
        np.testing.assert_array_equal(device.stored()[name], stored[name])


def test_copies_of_halves_are_floats(cnn: Path) -> None:
    types = {v.name: v.type.dtype.tag for v in compile_model(cnn, three_blocks(Options(dtype="fp16"))).program.stored(Role.PARAM)}
    assert types["conv2_weight"] == "f16" and types["conv2_weight_copy"] == "f32"


def test_kept_with_what_is_learned_and_left_out_of_the_model(cnn: Path, tmp_path: Path) -> None:
    made = compile_model(cnn, three_blocks(Options(optimiser=Optimiser(0.05))))
    write(made, tmp_path / "out")
    project, golden = Project.open(tmp_path / "out"), golden_vectors(made.program, 5)
    with project.session() as session:
        start = session.get_params()
        for x, target in zip(golden.x, golden.target, strict=True):
            session.train_step(x, target)
        learned = session.get_params()
        path = export_learned(project, session)
        session.reset()
        assert all((session.get_params()[key] == array).all() for key, array in start.items())
        restore(project, session)
        again = session.get_params()
    followed = [key for key in learned if key.endswith("_copy")]
    assert len(followed) == 4 and all((learned[key] != start[key]).any() for key in followed)
    assert all((again[key] == learned[key]).all() for key in learned)
    assert {t.name for t in onnx.load(path).graph.initializer} == {t.name for t in onnx.load(cnn).graph.initializer}


# --- memory, refusals, boards -------------------------------------------------------------------------------------


def test_maps_of_a_block_and_a_layer_are_in_memory_at_once(tmp_path: Path) -> None:
    path, one = deep(tmp_path), 4 * 32 * 32 * 8
    plans = {name: compile_model(path, Options(method=name)).plan for name in ("backprop", "local", "local-momentum")}
    taken = {name: (plan.arena_bytes - plan.fixed_bytes) / one for name, plan in plans.items()}
    assert taken["local"] + 0.9 < taken["local-momentum"] < 3.5 < taken["backprop"] / 2


def test_as_many_blocks_as_take_the_fewest_bytes_with_their_copies(tmp_path: Path) -> None:
    path = deep(tmp_path)
    arena, *others = (compile_model(path, Options(method=f"local-momentum{count}")).plan.arena_bytes for count in ("", ":2", ":3", ":6"))
    assert arena == min(others) < max(others)


def test_what_does_not_fit_is_said(cnn: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"--method local-momentum cuts .* cut nowhere"):
        compile_model(cnn, Options(method="local-momentum", scheme="head"))
    onnx.save(MODELS["int8"](), int8 := tmp_path / "int8.onnx")
    with pytest.raises(ModelError, match=r"averages weights, in steps that integers are too coarse for; .* is s8"):
        compile_model(int8, Options(method="local-momentum"))


@pytest.mark.parametrize("options", [CASES["momentum"], CASES["in part"], Options(dtype="fp16")])
def test_boards_learn_the_same_bits(options: Options, cnn: Path, tmp_path: Path) -> None:
    boards_learn(cnn, three_blocks(options), tmp_path)


def test_a_frozen_int8_layer_stands_for_its_own_copy(cnn: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x=np.random.default_rng(0).random((20, 1, 8, 8), np.float32))
    made = quantise_model(cnn, tmp_path / "x.npz", lockstep.Options(), Quiet())
    (tmp_path / "int8.onnx").write_bytes(made.model.SerializeToString())
    boards_learn(tmp_path / "int8.onnx", Options(method="local-momentum", scheme=NOT_THE_SECOND), tmp_path)
