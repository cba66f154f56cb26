# SPDX-License-Identifier: Apache-2.0
"""Learning without labels: losses that read none, bounds between which a sample is learned from, and what does not go together."""

from __future__ import annotations

import ctypes
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from cli_runs import save_data, save_model, sentence, succeed
from ctypes_model import Library
from numpy_device import made, on_numpy
from onnx_models import ModelMaker
from test_traces import need

import tinytrain as tt
from tinytrain import zoo
from tinytrain.compiler import Compiled, Options, compile_model, write
from tinytrain.device.project import Project
from tinytrain.emit.golden import golden_vectors
from tinytrain.errors import ModelError
from tinytrain.gradient.replay import Replay
from tinytrain.gradient.update import Optimiser
from tinytrain.ir.types import Role
from tinytrain.learn.state import Epoch
from tinytrain.quantise import lockstep
from tinytrain.quantise.convert import quantise_model
from tinytrain.report.live import Quiet
from tinytrain.target.board import load_board
from tinytrain.verify.reference import ReferenceModel

STEPS = 16
CASES: dict[str, dict[str, Any]] = {
    "entropy": {"loss": "entropy"},
    "entropy of few": {"loss": "entropy", "scheme": "bias", "optimiser": Optimiser(0.05, 0.9, accumulate=2)},
    "pseudo": {"loss": "pseudo", "loss_options": {"confidence": 0.4}},
    "entropy, fp16": {"loss": "entropy", "dtype": "fp16"},
    "entropy, int8": {"loss": "entropy", "int8": True},
}


def compiled(folder: Path, board: str = "host", int8: bool = False, **options: Any) -> Compiled:
    onnx.save(zoo.model("mlp"), folder / "model.onnx")
    if int8:
        converted = quantise_model(folder / "model.onnx", save_data(folder / "calibration.npz"), lockstep.Options(), Quiet())
        onnx.save(converted.model, folder / "model.onnx")
    return compile_model(folder / "model.onnx", replace(Options(board=board, exact_seconds=0.0, optimiser=Optimiser(0.05)), **options))


def bounds(losses: np.ndarray) -> tuple[float, float]:
    """In two gaps between losses, so that rounding cannot move one across: some lie below, some above."""
    ordered = np.sort(losses)
    low, high = (int(np.argmax(np.diff(ordered[part]))) + part.start for part in (slice(1, 6), slice(STEPS - 6, STEPS - 1)))
    return float(ordered[low : low + 2].mean()), float(ordered[high : high + 2].mean())


@pytest.mark.parametrize("case", CASES)
def test_twin_learns_from_the_samples_that_the_reference_learns_from(case: str, tmp_path: Path) -> None:
    program = compiled(tmp_path, **CASES[case])
    golden = golden_vectors(program.program, STEPS)
    reference, device = ReferenceModel(program.program), Library(program, tmp_path).instance()
    assert (device.context.skip_below, device.context.skip_above) == tuple(
        int(np.float32(bound).view(np.uint32)) for bound in program.program.bounds)
    first = np.array([reference.evaluate(x, target)[0] for x, target in zip(golden.x, golden.target, strict=True)])
    reference.skip_below, reference.skip_above = bounds(first)
    device.library.call("set_skip_below", ctypes.byref(device.context), ctypes.c_float(reference.skip_below))
    device.library.call("set_skip_above", ctypes.byref(device.context), ctypes.c_float(reference.skip_above))
    tolerance = 1e-4 if program.options.dtype == "fp32" else 2e-3
    for x, target in zip(golden.x, golden.target, strict=True):
        assert device.train_step(x, target) == pytest.approx(reference.train_step(x, target), rel=tolerance)
    assert 0 < device.context.skipped == reference.skipped < STEPS
    stored = device.stored()
    for v in program.program.stored(Role.PARAM, Role.STATE):
        if v.type.dtype.is_float:                         # what fp16 leaves in integers is finer than its tolerance
            np.testing.assert_allclose(stored[v.name], reference.state[v], rtol=tolerance, atol=tolerance, err_msg=v.name)


def test_what_is_not_a_loss_switches_the_upper_bound_off(tmp_path: Path) -> None:
    program = compiled(tmp_path, loss="ce", optimiser=Optimiser(0.0))
    golden = golden_vectors(program.program, 1)
    device, (x, target) = Library(program, tmp_path).instance(), (golden.x[0], golden.target[0])
    loss = device.evaluate(x, target)[0]
    for threshold in (0.0, -1.0, np.nan, np.inf, loss):
        for value in (1e-9, threshold):
            device.library.call("set_skip_above", ctypes.byref(device.context), ctypes.c_float(value))
        device.train_step(x, target)
        assert device.context.skipped == 0, threshold
    device.library.call("set_skip_above", ctypes.byref(device.context), ctypes.c_float(np.nextafter(np.float32(loss), np.float32(0))))
    device.train_step(x, target)
    assert device.context.skipped == 1


@pytest.mark.parametrize("board", ["mps2-an386", "mps2-an500", "riscv-virt"])
@pytest.mark.parametrize("case", ["entropy", "pseudo"])
def test_boards_equal_their_twins_bit_for_bit(case: str, board: str, tmp_path: Path) -> None:
    need(board)
    found = []
    for name in (load_board(board).twin, board):
        write(compiled(tmp_path, name, **CASES[case]), tmp_path / name)
        golden = golden_vectors(compiled(tmp_path, name, **CASES[case]).program, STEPS)
        with Project.open(tmp_path / name).session(timeout=600) as session:
            first = np.array([session.evaluate(x, target)[0] for x, target in zip(golden.x, golden.target, strict=True)])
            low, high = bounds(first)
            session.set_skip_below(low)
            session.set_skip_above(high)
            losses = [session.train_step(x, target).loss for x, target in zip(golden.x, golden.target, strict=True)]
            assert 0 < session.counters().skipped < STEPS
            found.append((losses, session.get_params()))
    (twin, on_twin), (losses, on_board) = found
    np.testing.assert_array_equal(losses, twin)
    for key, array in on_twin.items():
        np.testing.assert_array_equal(on_board[key], array, err_msg=key)


@pytest.fixture(scope="module")
def knowing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a network, model.onnx, that knows the classes of old.npz, and samples of a world that has changed: new.npz has no
    labels, test.npz has."""
    folder = tmp_path_factory.mktemp("unlabelled")
    save_data(folder / "old.npz", count=400)
    with np.load(folder / "old.npz") as file:
        x, y = file["x"], file["y"]
    program = made(save_model(folder), folder / "first")
    with pytest.MonkeyPatch.context() as patch:
        on_numpy(patch, program)
        with tt.open(folder / "first").device() as device:
            device.train(x[:200], y[:200], epochs=4, lr=0.02)
            device.save(folder / "model.onnx")
    changed = np.float32(0.5) * x[200:] + np.random.default_rng(1).normal(0, 0.5, x[200:].shape).astype(np.float32)
    np.savez(folder / "new.npz", x=changed[:150])
    np.savez(folder / "test.npz", x=changed[150:], y=y[350:])
    return folder


def project(knowing: Path, folder: Path, patch: pytest.MonkeyPatch, **options: Any) -> Path:
    on_numpy(patch, made(knowing / "model.onnx", folder / "out", **options))
    return folder / "out"


@pytest.mark.parametrize("loss", ["entropy", "pseudo"])
def test_training_without_labels(loss: str, knowing: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Validation samples may have labels; samples to learn from must not."""
    out = project(knowing, tmp_path, monkeypatch, loss=loss)
    text = succeed("train", out, "--data", knowing / "new.npz", "--validation", knowing / "test.npz", "--epochs", 2, "--lr", 0.01)
    assert "accuracy" in text and " skipped" in text
    said = sentence("train", out, "--data", knowing / "old.npz", "--force")
    assert f"old.npz has labels, which --loss {loss} of {out} does not read." in said and "compile with --loss ce" in said


def test_a_model_that_makes_itself_sure_of_one_class_is_told(knowing: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = project(knowing, tmp_path, monkeypatch, loss="entropy")
    text = sentence("train", out, "--data", knowing / "new.npz", "--epochs", 2, "--lr", 3, "--skip-above", 0, exit_code=3)
    assert "and did not before" in text and "lower learning rate" in text
    assert not (out / "learned.npz").exists()


@pytest.mark.parametrize(("options", "said", "code"), [
    (("--skip-above", 1e-9, "--skip-below", 0), "no sample has a loss between 0 and 1e-09", 3),
    (("--skip-below", 2), "Samples of a loss below 2 and above 0.921 are to be left out, which are all.", 2),
    (("--skip-above", -1), "Invalid value for '--skip-above'", 2),
])
def test_bounds_that_leave_no_sample(
    options: tuple[object, ...], said: str, code: int, knowing: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = project(knowing, tmp_path, monkeypatch, loss="entropy")
    assert said in sentence("train", out, "--data", knowing / "new.npz", *options, exit_code=code)


def test_what_does_not_go_together(tmp_path: Path) -> None:
    maker = ModelMaker(1, 6)
    maker.dense(4, 6)
    model = maker.model()
    model.graph.output.append(onnx.helper.make_tensor_value_info(model.graph.node[0].input[0], onnx.TensorProto.FLOAT, [1, 6]))
    for loss in ("entropy", f"{model.graph.output[0].name}=pseudo"):
        onnx.save(model, tmp_path / "two.onnx")
        with pytest.raises(ModelError, match="which reads no labels, is for a model with one"):
            compile_model(tmp_path / "two.onnx", Options(loss=loss))
    for method in ("local", "cascaded", "forward-forward"):
        with pytest.raises(ModelError, match="--loss entropy reads none"):
            compiled(tmp_path, loss="entropy", method=method)
    with pytest.raises(ModelError, match="no single label"):
        compiled(tmp_path, loss="entropy", replay=Replay.of("40:balanced"))


def test_a_detector_learns_from_what_is_normal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Samples are their own targets; those with an error above the bound change nothing."""
    maker = ModelMaker(1, 8)
    maker.dense(8, 8)
    (tmp_path / "m.onnx").write_bytes(maker.model().SerializeToString())
    on_numpy(monkeypatch, made(tmp_path / "m.onnx", tmp_path / "out", loss="mse"))
    rng = np.random.default_rng(0)
    x = rng.normal(0, 1, (60, 8)).astype(np.float32)
    x[::3] += 10
    np.savez(tmp_path / "d.npz", x=x)
    options = ("--skip-above", 20, "--holdout", 0, "--epochs", 10, "--lr", 0.05)
    text = succeed("train", tmp_path / "out", "--data", tmp_path / "d.npz", *options)
    assert "60 steps" in text and "20 skipped" in text


def test_the_last_epoch_counts_where_no_labels_tell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loss of samples without labels is least where all are said to be one class, so it decides nothing; that of labels may."""
    monkeypatch.setattr(Epoch, "better", lambda epoch, best: epoch.epoch == 2)
    save_model(tmp_path)
    on_numpy(monkeypatch, made(tmp_path / "mlp.onnx", tmp_path / "out", loss="entropy"))
    x = np.random.default_rng(0).normal(0, 1, (60, 64)).astype(np.float32)
    np.savez(tmp_path / "d.npz", x=x)
    np.savez(tmp_path / "v.npz", x=x[:20], y=np.arange(20) % 10)
    call = ("train", tmp_path / "out", "--data", tmp_path / "d.npz", "--epochs", 3, "--lr", 1e-4, "--skip-above", 9)
    succeed(*call)
    assert json.loads((tmp_path / "out" / "history.json").read_text())["best"] == 3
    assert "those held back have no labels." in sentence(*call, "--force", "--patience", 1)
    succeed(*call, "--force", "--validation", tmp_path / "v.npz")
    assert json.loads((tmp_path / "out" / "history.json").read_text())["best"] == 2
