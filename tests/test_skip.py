# SPDX-License-Identifier: Apache-2.0
"""Samples with a small loss cost their forward pass only, and change nothing: NumPy, twin and boards alike."""

from __future__ import annotations

import ctypes
import dataclasses
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from cli_runs import save_data, save_model, sentence, succeed
from ctypes_model import Instance, Library
from onnx_models import ModelMaker

from tinytrain import zoo
from tinytrain.compiler import Compiled, Options, compile_model, write
from tinytrain.device.project import Project
from tinytrain.emit.golden import Golden, golden_vectors
from tinytrain.gradient.update import Optimiser
from tinytrain.ir.types import Role
from tinytrain.planner import check_plan
from tinytrain.quantise.convert import quantise_model
from tinytrain.quantise.lockstep import Options as Quantisation
from tinytrain.report.live import Quiet
from tinytrain.target.board import load_board
from tinytrain.verify.reference import ReferenceModel

STEPS = 12


def compiled(model: onnx.ModelProto, folder: Path, board: str = "host", **options: object) -> Compiled:
    onnx.save(model, folder / "model.onnx")
    return compile_model(folder / "model.onnx", Options(board=board, exact_seconds=0.0, **options))  # type: ignore[arg-type]


def dropout_model() -> onnx.ModelProto:
    """Dropout right before the layer that `last:1` trains: nothing behind the loss then needs its counter."""
    maker = ModelMaker(1, 12)
    maker.dense(9, 12)
    maker.node("Relu")
    maker.node("Dropout")
    maker.dense(4, 9)
    return maker.model()


def middle(losses: list[float]) -> float:
    """A threshold in the widest gap between the losses of the middle, so that rounding cannot move one across."""
    ordered = sorted(losses)[STEPS // 4 : -STEPS // 4]
    gap = int(np.argmax(np.diff(ordered)))
    return (ordered[gap] + ordered[gap + 1]) / 2


def reference_with(program: Compiled, golden: Golden, threshold: float) -> tuple[ReferenceModel, list[float]]:
    model = ReferenceModel(program.program)
    model.skip_below = threshold
    return model, [model.train_step(x, target) for x, target in zip(golden.x, golden.target, strict=True)]


def set_skip_below(device: Instance, threshold: float) -> None:
    device.library.call("set_skip_below", ctypes.byref(device.context), ctypes.c_float(threshold))


CASES = {
    "sgd": (zoo.model("cnn"), {}),
    "accumulated": (zoo.model("cnn"), {"optimiser": Optimiser(0.01, 0.9, accumulate=3)}),
    "adam": (zoo.model("mlp"), {"optimiser": Optimiser(0.001, kind="adam")}),
    "dropout": (dropout_model(), {"dropout": True, "optimiser": Optimiser(0.05)}),
    "dropout before what is trained": (dropout_model(), {"dropout": True, "scheme": "last:1", "optimiser": Optimiser(0.05)}),
    "mse": (zoo.model("cnn"), {"loss": "mse"}),
}


@pytest.mark.parametrize("case", CASES)
def test_twin_skips_as_the_reference_does(case: str, tmp_path: Path) -> None:
    model, options = CASES[case]
    program = compiled(model, tmp_path, **options)
    golden = golden_vectors(program.program, STEPS)
    threshold = middle(golden.losses.tolist())
    reference, expected = reference_with(program, golden, threshold)
    assert 0 < reference.skipped < STEPS and expected != golden.losses.tolist(), "some samples are left out, and that changes the others"

    device = Library(program, tmp_path).instance()
    set_skip_below(device, threshold)
    losses = [device.train_step(x, target) for x, target in zip(golden.x, golden.target, strict=True)]
    np.testing.assert_allclose(losses, expected, rtol=1e-4, atol=1e-5)
    assert device.context.skipped == reference.skipped
    stored = device.stored()
    for v in program.program.stored(Role.PARAM, Role.STATE):
        np.testing.assert_allclose(stored[v.name], reference.state[v], rtol=1e-4, atol=1e-5, err_msg=v.name)


@pytest.mark.parametrize("case", CASES)
def test_a_skipped_sample_changes_no_byte_of_what_is_stored(case: str, tmp_path: Path) -> None:
    program = compiled(CASES[case][0], tmp_path, **CASES[case][1])
    golden = golden_vectors(program.program, 3)
    device = Library(program, tmp_path).instance()
    set_skip_below(device, np.inf)
    before = device.arena[: program.plan.fixed_bytes].copy()
    losses = [device.train_step(golden.x[0], golden.target[0]) for _ in range(2)]
    assert losses[0] == losses[1] > 0
    np.testing.assert_array_equal(device.arena[: program.plan.fixed_bytes], before)
    assert (device.context.count, device.context.skipped) == (0, 2)


def test_no_threshold_but_a_positive_one_skips(tmp_path: Path) -> None:
    program = compiled(zoo.model("mlp"), tmp_path, optimiser=Optimiser(0.0))
    golden = golden_vectors(program.program, 1)
    device = Library(program, tmp_path).instance()
    x, target = golden.x[0], golden.target[0]
    loss = device.evaluate(x, target)[0]
    for threshold in (0.0, -0.0, -1.0, -np.inf, np.nan, -np.nan, loss):
        set_skip_below(device, 100.0)
        set_skip_below(device, threshold)
        device.train_step(x, target)
        assert device.context.skipped == 0, threshold
    for count, threshold in enumerate((np.nextafter(np.float32(loss), np.float32(np.inf)), np.inf), start=1):
        set_skip_below(device, float(threshold))
        device.train_step(x, target)
        assert device.context.skipped == count, threshold


def test_a_loss_that_is_not_a_number_is_not_skipped(tmp_path: Path) -> None:
    program = compiled(zoo.model("mlp"), tmp_path, loss="mse", guards="none")
    device = Library(program, tmp_path).instance()
    set_skip_below(device, np.inf)
    for bad in (np.nan, -np.nan, np.inf):
        device.train_step(np.zeros(64, np.float32), np.full(10, bad, np.float32))
    assert device.context.skipped == 0


@pytest.mark.parametrize("loss", ["ce", "ce-soft", "mse", "bce"])
def test_the_backward_pass_comes_behind_the_loss(loss: str, tmp_path: Path) -> None:
    """Nothing before the loss depends on the target: no gradient is made that a skipped sample would not need."""
    plan = compiled(zoo.model("cnn"), tmp_path, loss=loss).plan.entries["train"]
    graph, made = plan.graph, {plan.graph.inputs[1]}
    for node in graph.nodes:
        if graph.outputs[0] in node.outputs:
            return
        assert not made.intersection(node.inputs), f"{node.op.name} reads the target and stands before the loss"
        made.update(v for v in node.outputs if made.intersection(node.inputs))
    pytest.fail("there is no loss")


def test_checker_refuses_an_update_before_the_loss(tmp_path: Path) -> None:
    program = compiled(dropout_model(), tmp_path, dropout=True, scheme="last:1")
    plan = program.plan.entries["train"]
    first = next(node for node in plan.graph.nodes if node.op.name == "advance")
    early = next(i for i, node in enumerate(plan.graph.nodes) if node.op.name == "dense")
    others = [node for node in plan.graph.nodes if node is not first]
    reads = max(i for i, node in enumerate(others) if set(node.inputs) & set(first.inputs))
    assert early <= reads
    wrong = dataclasses.replace(plan, graph=plan.graph.replace(nodes=(*others[: reads + 1], first, *others[reads + 1 :])))
    with pytest.raises(AssertionError, match=r"advance writes %\w+:s32\[1\] before outputs \[%loss:f32\[1\]\] are known"):
        check_plan(program.program.entries["train"], wrong, program.plan.fixed, program.plan.input_offset, 8, program.plan.arena_bytes)


def integer_model(folder: Path) -> onnx.ModelProto:
    onnx.save(zoo.model("mlp"), folder / "float.onnx")
    save_data(folder / "calibration.npz", count=32)
    return quantise_model(folder / "float.onnx", folder / "calibration.npz", Quantisation(), Quiet()).model


@pytest.mark.parametrize("board", ["host", "mps2-an386", "riscv-virt"])
def test_integer_training_skips_the_same_samples_everywhere(board: str, tmp_path: Path) -> None:
    """Losses and weights equal NumPy bit for bit; a sample left out costs less than half."""
    tools = load_board(board)
    if not any(map(shutil.which, tools.toolchain.cc)) or (tools.machine and not shutil.which(tools.machine[0])):
        pytest.skip(f"{board} needs {tools.toolchain.cc[0]}")
    program = compiled(integer_model(tmp_path), tmp_path, board, grad="int8", optimiser=Optimiser(0.05))
    golden = golden_vectors(program.program, STEPS)
    threshold = middle(golden.losses.tolist())
    reference, expected = reference_with(program, golden, threshold)
    write(program, tmp_path / "out")
    with Project.open(tmp_path / "out").session(icount=True, timeout=600) as session:
        session.set_skip_below(threshold)
        steps = [session.train_step(x, target) for x, target in zip(golden.x, golden.target, strict=True)]
        found, skipped = session.get_params(), session.counters().skipped
        session.reset()
        assert (session.counters().skipped, session.train_step(golden.x[0], golden.target[0]).loss) == (0, expected[0])
    np.testing.assert_array_equal([step.loss for step in steps], expected)
    assert 0 < skipped == reference.skipped < STEPS
    for v, array in reference.state.items():
        np.testing.assert_array_equal(found[v.source.initializer if v.source else v.name], array.reshape(-1), err_msg=v.name)
    if board != "host":
        left_out = [step.instructions or 0 for step in steps if step.loss < threshold]
        assert 0 < max(left_out) < 0.5 * min(step.instructions or 0 for step in steps if step.loss >= threshold)


def test_train_says_how_many_were_skipped(tmp_path: Path) -> None:
    """Accumulating: an update falls where it falls, and resuming still gives the same."""
    model, data, out = save_model(tmp_path), save_data(tmp_path / "data.npz"), tmp_path / "out"
    succeed("compile", model, "-o", out, "--accumulate", 4)
    options = ("--data", data, "--lr", 0.2, "--skip-below", 1.5)
    text = succeed("train", out, *options, "--epochs", 3)
    (last,) = (line for line in text.splitlines() if line.startswith("epoch 3/3"))
    assert " skipped" in last and "skipped" not in succeed("train", out, *options[:4], "--force")
    succeed("train", out, *options, "--epochs", 3, "--force")
    whole = np.load(out / "learned.npz")
    succeed("train", out, *options, "--epochs", 1, "--force")
    succeed("train", out, *options, "--epochs", 3, "--resume")
    again = np.load(out / "learned.npz")
    for name in set(whole.files) - {"record.json"}:       # which says how long it took
        np.testing.assert_array_equal(again[name], whole[name], err_msg=name)
    assert "Invalid value for '--skip-below': nan is not a finite number." in sentence("train", out, "--data", data, "--skip-below", "nan")
