# SPDX-License-Identifier: Apache-2.0
"""Momentum in int8: it is that of fp32 in the mean, whatever the size of the gradients, at a quarter of the memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from cli_runs import save_data, save_model, sentence, succeed

from tinytrain import passes
from tinytrain.compiler import Compiled, Options, compile_model, load_forward
from tinytrain.gradient.train_step import build_program
from tinytrain.gradient.update import Optimiser
from tinytrain.ir.graph import Program
from tinytrain.ir.types import Array, Role
from tinytrain.ops.fixed import scaled
from tinytrain.ops.momentum_int import FRACTION_BITS, MomentumInt
from tinytrain.ops.momentum_q import FIRST_EXPONENT, MomentumExponent, MomentumQ
from tinytrain.ops.optimiser import Sgd
from tinytrain.schemes.scheme import resolve
from tinytrain.verify.reference import ReferenceModel

INT8 = Optimiser(0.01, momentum=0.9, int8_momentum=True)


def followed(gradients: Array, nesterov: bool = False) -> tuple[Array, Array, list[int]]:
    """(directions, what is kept as reals, exponents) of gradients (steps, n)."""
    op, rule = MomentumQ(0.9, nesterov, seed=3), MomentumExponent()
    q, e = np.zeros(gradients.shape[1], np.int8), np.array([FIRST_EXPONENT], np.int32)
    directions, kept, exponents = [], [], []
    for step, g in enumerate(gradients, start=1):
        (e_new,) = rule.reference(q, e)
        direction, q = op.reference(g.astype(np.float32), q, e, e_new, np.array([step], np.int32))
        e = e_new
        directions.append(direction)
        kept.append(np.ldexp(q.astype(np.float64), e))
        exponents.append(int(e[0]))
    return np.array(directions), np.array(kept), exponents


@pytest.mark.parametrize("size", [1e-4, 1.0, 1e6])
def test_it_follows_that_of_fp32(size: float) -> None:
    """Gradients of one direction and noise around it, over ten orders of magnitude; the mean error is far below a step of q."""
    rng = np.random.default_rng(0)
    gradients = size * (rng.normal(0, 1, 400) + rng.normal(0, 0.5, (120, 400)))
    v, wanted = np.zeros(400), []
    for g in gradients:
        v = 0.9 * v + g
        wanted.append(v)
    directions, kept, exponents = followed(gradients)
    late, want = slice(60, None), np.array(wanted)
    step = 2.0 ** np.array(exponents[60:])
    assert np.abs(kept[late] - want[late]).max() / step.max() < 12
    assert abs((kept[late] - want[late]).mean() / step.mean()) < 0.1
    flat, other = directions[late].reshape(-1), want[late].reshape(-1)
    assert flat @ other / np.linalg.norm(flat) / np.linalg.norm(other) > 0.998


def test_a_gradient_is_never_cut_off() -> None:
    """While the exponent catches up, the step is that of plain SGD at least; when it has, no element saturates."""
    gradients = np.tile(np.linspace(0.5, 1, 16), (40, 1))
    directions, kept, exponents = followed(gradients)
    np.testing.assert_allclose(directions[0], gradients[0])
    assert (directions >= gradients * (1 - 1e-6)).all()
    assert exponents[0] == FIRST_EXPONENT < exponents[-1]
    np.testing.assert_allclose(kept[-1], gradients[-1] / (1 - 0.9), rtol=0.1)


def test_nesterov_looks_ahead() -> None:
    gradients = np.ones((1, 4))
    np.testing.assert_allclose(followed(gradients, nesterov=True)[0][0], 1.9)


def test_exponent_falls_with_the_gradients_and_stays_where_there_are_none() -> None:
    gradients = np.concatenate([np.full((30, 8), 1.0), np.full((60, 8), 1e-3), np.zeros((600, 8))])
    _, kept, exponents = followed(gradients)
    assert exponents[89] <= exponents[29] - 5
    assert not kept[-1].any()
    assert exponents[-1] == exponents[-50] >= MomentumExponent.limits[0]


def programs(folder: Path, optimiser: Optimiser) -> tuple[Program, Program]:
    """A training program before and after its epilogues are fused."""
    path = save_model(folder)
    _, _, forward = load_forward(path, Options())
    program = build_program(forward, "ce", resolve("full", forward), optimiser).map(lambda g: passes.run(g, passes.GRADIENTS))
    return program, program.map(lambda g: passes.run(g, passes.KERNELS))


@pytest.mark.parametrize("optimiser", [INT8, Optimiser(0.01, kind="adam")], ids=["momentum", "adam"])
def test_direction_lives_in_registers(optimiser: Optimiser, tmp_path: Path) -> None:
    """Gradient, direction and update are one kernel, and give the same bits as apart."""
    apart, fused = (ReferenceModel(program) for program in programs(tmp_path, optimiser))
    of_weights = [node for node in fused.program.entries["train"].nodes if node.op.name == "dense_grad_w"]
    assert len(of_weights) == 3
    assert all(isinstance(node.op.then[-1], Sgd) and len(node.op.then) == 2 for node in of_weights)  # type: ignore[attr-defined]
    x = np.random.default_rng(0).standard_normal((6, 64)).astype(np.float32)
    losses = [[model.train_step(s, np.array([i], np.int32)) for i, s in enumerate(x)] for model in (apart, fused)]
    assert losses[0] == losses[1]
    one, other = ({v.name: array for v, array in model.state.items()} for model in (apart, fused))
    for name, array in one.items():
        np.testing.assert_array_equal(other[name], array, err_msg=name)


def compiled(folder: Path, optimiser: Optimiser) -> Compiled:
    return compile_model(save_model(folder), Options(optimiser=optimiser))


def test_memory(tmp_path: Path) -> None:
    """Three bytes less for each weight, and four more for each tensor: its exponent."""
    wide, narrow = (compiled(tmp_path, Optimiser(0.01, momentum=0.9, int8_momentum=int8)) for int8 in (False, True))
    params = wide.program.stored(Role.PARAM)
    saved = 3 * sum(v.type.numel for v in params) - 4 * len(params)
    assert wide.plan.fixed_bytes - narrow.plan.fixed_bytes == pytest.approx(saved, abs=12 * len(params))
    assert wide.plan.arena_bytes - narrow.plan.arena_bytes == pytest.approx(saved, abs=12 * len(params))


def test_sums_start_anew(tmp_path: Path) -> None:
    model = ReferenceModel(compiled(tmp_path, Optimiser(0.01, momentum=0.9, int8_momentum=True, accumulate=2)).program)
    for _ in range(4):
        model.train_step(np.ones(64, np.float32), np.array([1], np.int32))
    sums = [array for v, array in model.state.items() if v.name.startswith("sum_")]
    assert len(sums) == 6
    assert not any(array.any() for array in sums)
    assert any(array.any() for v, array in model.state.items() if v.name.startswith("velocity_"))


def test_command_line(tmp_path: Path) -> None:
    model, data = save_model(tmp_path), save_data(tmp_path / "d.npz")
    out = ("compile", model, "-o", tmp_path / "out")
    assert "--momentum-type int8 has no effect with momentum 0; expected --momentum above 0." in sentence(*out, "--momentum-type", "int8")
    succeed(*out, "--momentum-type", "int8", "--momentum", 0.9)
    succeed("train", tmp_path / "out", "--data", data)
    with np.load(tmp_path / "out" / "learned.npz") as learned:
        assert learned["state/velocity_fc1_weight"].dtype == np.int8
        assert learned["state/exponent_fc1_weight"].shape == (1,)


@pytest.mark.parametrize("size", [2**10, 2**29])
@pytest.mark.parametrize("nesterov", [False, True])
def test_of_integers_it_is_the_same(size: int, nesterov: bool) -> None:
    """Directions and what is kept, against the rule in floats with the same exponents and the same random words."""
    rng = np.random.default_rng(0)
    real, whole, rule = MomentumQ(0.9, nesterov, seed=3), MomentumInt(0.9, nesterov, seed=3), MomentumExponent()
    q, e = np.zeros(400, np.int8), np.array([-7], np.int32)
    for step in range(1, 60):
        g, shift, counter = rng.integers(-size, size, 400, np.int32), np.array([-30], np.int32), np.array([step], np.int32)
        (e_new,) = rule.reference(q, e)
        direction, kept = whole.reference(g, shift, q, e, e_new, counter)
        wanted, also = real.reference(np.ldexp(g.astype(np.float64), -30), q, e, e_new, counter)
        unit = 2.0 ** float(e_new[0])
        np.testing.assert_allclose(direction * (unit / 2**FRACTION_BITS), wanted, atol=0.01 * unit)
        off = kept.astype(int) - also                     # the same word rounds up where the other rounds away from zero
        assert np.abs(off).max() <= 1 and abs(off.mean()) < 0.12
        q, e = kept, e_new


@pytest.mark.parametrize("up", [-70, -40, -3, 0, 5, 31, 70])
def test_gradients_are_brought_to_the_exponent_of_the_momentum(up: int) -> None:
    g = np.array([-(2**31), -1000, -5, 0, 3, 1000, 2**31 - 1])
    np.testing.assert_allclose(scaled(g, up), np.clip(g * 2.0**up, -(2**30), 2**30), atol=0.5)
