# SPDX-License-Identifier: Apache-2.0
"""Learning without a backward pass: weights move where they stand and come back, a step needs the RAM of inference, and it learns."""

from __future__ import annotations

import ctypes
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from ctypes_model import Instance, Library, _pointer, assert_learns_as_reference
from planner_graphs import Fake, plan_one, same
from test_ladder import MODELS
from test_traces import assert_boards_equal_twins

from tinytrain import zoo
from tinytrain.compiler import Compiled, Options, compile_model
from tinytrain.device.commands import Status
from tinytrain.emit.golden import golden_vectors
from tinytrain.errors import ModelError, TinytrainError
from tinytrain.gradient.methods import method
from tinytrain.gradient.methods.zeroth import Zeroth
from tinytrain.gradient.replay import Replay
from tinytrain.gradient.update import Optimiser, factor_shape
from tinytrain.ir.builder import Builder
from tinytrain.ir.graph import Graph
from tinytrain.ir.types import S8, S32, Array, Role, Value
from tinytrain.ops.perturb import Perturb, RandomDirection
from tinytrain.ops.perturb_int import Swap, SwapDirection
from tinytrain.planner import check_plan
from tinytrain.verify.reference import ReferenceModel, run

KINDS: dict[str, dict[str, Any]] = {
    "sgd": {}, "momentum": {"optimiser": Optimiser(0.01, 0.9)}, "adam": {"optimiser": Optimiser(0.001, kind="adam")},
    "accumulated": {"optimiser": Optimiser(0.01, accumulate=3)}, "part of a weight": {"scheme": "part"}, "last layer": {"scheme": "last:1"},
    "two schemes": {"further_schemes": ("bias",)}, "int8": {"int8": True}, "int8 biases": {"int8": True, "scheme": "bias"},
    "int8 momentum": {"int8": True, "optimiser": Optimiser(0.1, 0.9)},
    "no guards": {"guards": "none"}, "guarded as a whole": {"guards": "step"},
}
PART = '[layers.conv2]\nweight = 0.5\nbias = true\n\n[layers.fc]\nbias = true\n'


def compiled(folder: Path, name: str = "cnn", int8: bool = False, **options: object) -> Compiled:
    """Of one folder it is the same model each time: that of int8 is a random one."""
    path = folder / f"{'int8' if int8 else name}.onnx"
    if not path.exists():
        onnx.save(MODELS["int8"]() if int8 else zoo.model(name), path)
    (folder / "part.toml").write_text(PART)
    if options.get("scheme") == "part":
        options["scheme"] = str(folder / "part.toml")
    return compile_model(path, Options(exact_seconds=0.0, **{"method": "zeroth", **options}))  # type: ignore[arg-type]


def weights(device: Instance) -> dict[str, Array]:
    stored = device.stored()
    return {v.name: stored[v.name].copy() for v in device.library.compiled.program.stored(Role.PARAM)}


@pytest.mark.parametrize("kind", KINDS)
def test_learns_as_the_reference(kind: str, tmp_path: Path) -> None:
    assert_learns_as_reference(Library(compiled(tmp_path, **KINDS[kind]), tmp_path))


def test_a_step_takes_the_ram_of_inference_and_the_sample(tmp_path: Path) -> None:
    """Of weights that are moved there is no copy, and of the forward pass nothing is kept."""
    for name in zoo.NAMES:
        model = compiled(tmp_path, name)
        fixed, infer, train = model.plan.fixed_bytes, model.plan.entries["infer"], model.plan.entries["train"]
        sample = model.program.entries["infer"].inputs[0].type.nbytes
        assert train.arena_bytes <= infer.arena_bytes + sample + 64 < fixed + sample + infer.arena_bytes
        assert model.plan.arena_bytes < compiled(tmp_path, name, method="backprop").plan.arena_bytes


def test_the_header_says_what_moves_meanwhile(tmp_path: Path) -> None:
    header, other = (" ".join(compiled(tmp_path, method=how).files["cnn.h"].split()) for how in ("zeroth", "backprop"))
    for words in ("or moved to either side, which a step does", "nothing has changed but what moving weights has rounded;"):
        assert words in header and words not in other


def test_the_gradient_is_what_two_losses_tell(tmp_path: Path) -> None:
    """Against the definition, with signs drawn here: mean loss, and the part of the gradient along them."""
    program = compiled(tmp_path, "gesture", optimiser=Optimiser(1.0)).program
    golden, reference = golden_vectors(program, 1), ReferenceModel(program, np.float64)
    before = {v: a.copy() for v, a in reference.state.items()}
    moved = {n.op.seed: p for n in program.entries["train"].nodes if isinstance(n.op, Perturb) and (p := n.inputs[0]).role is Role.PARAM}
    signs = {p: RandomDirection(p.shape, seed).reference(np.ones(1), np.zeros(1, np.int32))[0] for seed, p in moved.items()}
    count, losses = sum(z.size for z in signs.values()), []
    for side in (1, -1):
        evaluate = ReferenceModel(program, np.float64)
        evaluate.state.update({p: before[p] + side * 2.0**-10 * z for p, z in signs.items()})
        losses.append(evaluate.evaluate(golden.x[0], golden.target[0])[0])
    assert reference.train_step(golden.x[0], golden.target[0]) == pytest.approx(sum(losses) / 2, rel=1e-9)
    slope = (losses[0] - losses[1]) / (2 * 2.0**-10) / count
    for p, z in signs.items():
        np.testing.assert_allclose(reference.state[p], before[p] - slope * z, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("guards", ["rest", "step"])
def test_what_is_left_out_leaves_weights_where_they_were(guards: str, tmp_path: Path) -> None:
    """A sample below the threshold, and one that is not finite: weights are back, bit for bit once they have been there and back."""
    model = compiled(tmp_path, loss="mse", guards=guards)
    device, reference, golden = Library(model, tmp_path).instance(), ReferenceModel(model.program), golden_vectors(model.program, 4)
    start = weights(device)
    device.library.call("set_skip_below", ctypes.byref(device.context), ctypes.c_float(1e9))
    reference.skip_below = 1e9
    for x, target in zip(golden.x[:2], golden.target, strict=False):
        device.train_step(x, target)
        reference.train_step(x, target)
        back = weights(device)
        for name, array in back.items():
            np.testing.assert_array_equal(array, reference.parameters()[name])
            np.testing.assert_allclose(array, start[name], rtol=0, atol=2.0**-22)
    device.library.call("set_skip_below", ctypes.byref(device.context), ctypes.c_float(0.0))
    huge, loss = np.full_like(golden.target[0], 3e38), np.zeros(1, np.float32)      # its square is infinite
    status = device.library.call("train_step", ctypes.byref(device.context), _pointer(golden.x[2]), _pointer(huge), _pointer(loss))
    assert Status(status) is Status.NOT_FINITE
    for name, array in weights(device).items():
        np.testing.assert_array_equal(array, back[name], err_msg="they are on the grid that both sides have")


def test_there_and_back_is_exact_from_the_second_time_on() -> None:
    rng = np.random.default_rng(0)
    w = (rng.normal(0, 1, 4096) * np.exp(rng.normal(0, 4, 4096))).astype(np.float32)
    for epsilon in (2.0**-10, 2.0**-20, 1.0):
        given = w
        for time, step in enumerate(range(3)):
            made = given
            for size in (epsilon, -2 * epsilon, epsilon):
                made = Perturb(5, size).reference(made, np.array([step], np.int32))[0]
            assert np.abs(made - given).max() <= 2.0**-23 * (np.abs(w).max() + epsilon)
            assert time == 0 or np.array_equal(made, given)
            given = made


def test_learns_a_task(tmp_path: Path) -> None:
    """Two rows of numbers by their sign, from nothing, in a few thousand steps."""
    device = Library(compiled(tmp_path, "gesture", optimiser=Optimiser(0.3)), tmp_path).instance()
    rng, losses = np.random.default_rng(1), []
    pattern = rng.normal(0, 1, (2, *golden_vectors(device.library.compiled.program, 1).x[0].shape)).astype(np.float32)
    for i in range(3000):
        label = i % 2
        x = pattern[label] + rng.normal(0, 0.3, pattern[0].shape).astype(np.float32)
        losses.append(device.train_step(x, np.array(label, np.int32)))
    assert np.mean(losses[-100:]) < 0.5 * np.mean(losses[:100])


def test_what_does_not_fit_is_said(tmp_path: Path) -> None:
    assert method("zeroth:0.001") == Zeroth(2.0**-10) and method("zeroth") == Zeroth()
    for text in ("zeroth:0", "zeroth:2", "zeroth:nan", "zeroth:x"):
        with pytest.raises(TinytrainError, match="expected what weights are moved by"):
            method(text)
    for given in ({"grad": "fp16"}, {"dtype": "fp16"}):
        with pytest.raises(ModelError, match="has nothing to change"):
            compiled(tmp_path, **given)
    with pytest.raises(ModelError, match="those of --replay cannot follow it"):
        compiled(tmp_path, replay=Replay(8))


@pytest.mark.parametrize("int8", [False, True])
def test_boards_draw_and_learn_the_same_bits(int8: bool, tmp_path: Path) -> None:
    def made(board: str) -> Compiled:
        return compiled(tmp_path, "gesture", int8, board=board, optimiser=Optimiser(0.05, 0.9))

    boards = ["mps2-an386", "mps2-an500", "riscv-virt", "riscv-virt-rvv"]
    assert_boards_equal_twins(boards, made, golden_vectors(made("host").program, 6), tmp_path)


# --- int8 -----------------------------------------------------------------------------------------------------------


def test_integers_go_by_one_and_come_back() -> None:
    for low, high in ((-128, 127), (-8, 7)):
        w, counts = np.arange(low, high + 1, dtype=np.int8).repeat(100), []
        for step in range(20):
            op, counter = Swap(3, (low, high)), np.array([step], np.int32)
            (made,) = op.reference(w, counter)
            assert np.array_equal(op.reference(made, counter)[0], w)
            went = made.astype(int) - w
            assert np.abs(went).max() == 1 and made.min() >= low and made.max() <= high
            np.testing.assert_array_equal(SwapDirection(3, (low, high)).reference(np.ones(1), w, counter)[0], went)
            counts.append(went.reshape(-1, 100)[1:-1].mean())
        assert abs(np.mean(counts)) < 0.02


def test_int8_weights_that_learn_nothing_stay_as_they_are(tmp_path: Path) -> None:
    model = compiled(tmp_path, int8=True)
    device, golden = Library(model, tmp_path).instance(), golden_vectors(model.program, 3)
    start = weights(device)
    device.library.call("set_skip_below", ctypes.byref(device.context), ctypes.c_float(1e9))
    for x, target in zip(golden.x, golden.target, strict=True):
        device.train_step(x, target)
        for name, array in weights(device).items():
            np.testing.assert_array_equal(array, start[name])


def test_int8_gradient_is_the_part_along_what_moved(tmp_path: Path) -> None:
    """Against the definition: (L(w + d) − L(w)) · d/d² of the real weights; units of what is stored."""
    model = compiled(tmp_path, int8=True, guards="none")
    graph, golden = model.program.entries["train"], golden_vectors(model.program, 1)
    first, length, units = {}, 0.0, {}
    for node in graph.nodes:
        if node.op.lends and node.inputs[0].role is Role.PARAM:
            p = node.inputs[0]
            assert p.data is not None and p.type.quant is not None
            units[p] = node.op.reference(p.data, np.zeros(1, np.int32))[0].astype(np.float64) - p.data
            length += float(np.square(units[p] * np.array(p.type.quant.scale).reshape(factor_shape(p))).sum())
            first[p] = p.data + units[p]
    losses = []
    for moved in (first, {}):
        evaluate = ReferenceModel(model.program)
        evaluate.state.update({p: array.astype(p.type.dtype.np) for p, array in moved.items()})
        losses.append(evaluate.evaluate(golden.x[0], golden.target[0])[0])
    assert {p.type.dtype for p in units} == {S8, S32}
    reference = ReferenceModel(model.program)
    assert reference.train_step(golden.x[0], golden.target[0]) == pytest.approx(losses[1], rel=1e-6)
    slope = next(n for n in graph.nodes if n.outputs[0].name == "slope")
    assert slope.op.weights[0] == pytest.approx(1 / length, rel=0.05)             # type: ignore[attr-defined]


# --- the planner ----------------------------------------------------------------------------------------------------


class Lend(Fake):
    lends = True


def lent() -> tuple[Graph, Value, Value]:
    """y1 = f(x, w1), y2 = f(x, w2), between which w goes there and back."""
    g = Builder("lent")
    x, w = g.input("x", (4,)), g.const("w", np.zeros(4, np.float32), Role.PARAM)
    made = []
    for _ in range(2):
        g.emit(Lend((4,), ((0, 0),)), w, name="moved")
        made.append(g.emit(Fake((4,)), x, w, name="y"))
    g.emit(Lend((4,), ((0, 0),)), w, name="back")
    loss = g.emit(Fake((1,)), *made, name="loss")
    new = g.emit(same(w, pairs=((0, 0),)), w, loss, name="new")
    return g.graph([loss], {w: new}), w, new


def test_what_is_lent_stays_where_it_is_and_is_back_before_the_loss() -> None:
    graph, w, new = lent()
    plan = plan_one(graph)
    assert all(plan.root(v) is w for v in (*graph.homes(), new)) and not plan.copies
    order = [node.outputs[0].name for node in plan.graph.nodes]
    assert order == ["moved", "y", "moved_2", "y_2", "back", "loss", "new"]


@pytest.mark.parametrize(("order", "why"), [
    ([0, 2, 1, 3, 4, 5, 6], "is expected at"), ([0, 1, 2, 3, 5, 4, 6], "given back"), ([0, 1, 2, 4, 3, 5, 6], "is expected at"),
])
def test_checker_refuses_what_is_read_or_given_back_too_late(order: list[int], why: str) -> None:
    graph, w, _ = lent()
    plan = plan_one(graph)
    wrong = dataclasses.replace(plan, graph=plan.graph.replace(nodes=tuple(plan.graph.nodes[p] for p in order)))
    with pytest.raises(AssertionError, match=why):
        check_plan(graph, wrong, {w: plan.offsets[w]}, plan.offsets[graph.inputs[0]], 8, 1_000_000)


def test_run_tells_what_was_given_back(tmp_path: Path) -> None:
    train = compiled(tmp_path, scheme="none").program.entries
    assert not any(graph.lent for graph in train.values())
    graph = compiled(tmp_path).program.entries["train"]
    result = run(graph, [np.zeros(v.shape, v.type.dtype.np) for v in graph.inputs])
    assert set(result.lent) == set(graph.lent)
    assert all(p.data is not None and np.abs(array - p.data).max() < 1e-6 for p, array in result.lent.items())
