# SPDX-License-Identifier: Apache-2.0
"""A device that chooses among its schemes: by how far losses fell for what a step costs, the same choice and the same bits everywhere."""

from __future__ import annotations

import ctypes
import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from cli_runs import save_model, sentence, succeed
from ctypes_model import Instance, Library, _pointer
from sklearn.datasets import load_digits
from test_traces import assert_boards_equal_twins

import tinytrain
from tinytrain import zoo
from tinytrain.compiler import Compiled, Options, compile_model
from tinytrain.device.commands import Status
from tinytrain.emit.golden import golden_vectors
from tinytrain.errors import ModelError, TinytrainError
from tinytrain.gradient.methods import method
from tinytrain.gradient.update import Optimiser
from tinytrain.ir.choosing import end_turn, in_turn, is_trial
from tinytrain.ir.graph import CHOICE, FALLS, TRIALS
from tinytrain.ir.types import Array
from tinytrain.verify.reference import ReferenceModel

EVERY = 20
KINDS: dict[str, dict[str, Any]] = {
    "fp32": {}, "momentum": {"optimiser": Optimiser(0.01, 0.9)}, "no guards": {"guards": "none"}, "guarded as a whole": {"guards": "step"},
    "fp16 gradients": {"grad": "fp16"},
}


def compiled(folder: Path, **options: Any) -> Compiled:
    onnx.save(zoo.model("cnn"), folder / "cnn.onnx")
    given = {"method": f"green:{EVERY}", "scheme": "head", "further_schemes": ("last:2", "full"), "optimiser": Optimiser(0.01), **options}
    return compile_model(folder / "cnn.onnx", Options(exact_seconds=0.0, **given))


def learn(device: Instance | ReferenceModel, model: Compiled, steps: int) -> list[float]:
    golden = golden_vectors(model.program, steps)
    return [device.train_step(x, target) for x, target in zip(golden.x, golden.target, strict=True)]


def state(device: Instance | ReferenceModel, name: str) -> Array:
    return device.stored()[name] if isinstance(device, Instance) else next(a for v, a in device.state.items() if v.name == name)


@pytest.mark.parametrize("kind", KINDS)
def test_chooses_as_the_reference(kind: str, tmp_path: Path) -> None:
    model = compiled(tmp_path, **KINDS[kind])
    device, reference = Library(model, tmp_path).instance(), ReferenceModel(model.program)
    np.testing.assert_allclose(learn(device, model, 45), learn(reference, model, 45), rtol=1e-3, atol=1e-4)
    np.testing.assert_array_equal(state(device, CHOICE), state(reference, CHOICE))
    turn, chosen, *steps = state(device, CHOICE).tolist()
    assert (turn, sum(steps)) == (45 % EVERY, 45) and 0 <= chosen < 3 and min(steps) >= 2 * TRIALS + 1
    np.testing.assert_allclose(state(device, FALLS), state(reference, FALLS), rtol=1e-2, atol=1e-4)


def test_a_step_in_pieces_chooses_the_same(tmp_path: Path) -> None:
    """Trials have more pieces, among them those that evaluate the sample again, wherever it lies."""
    model = compiled(tmp_path)
    golden, library = golden_vectors(model.program, 30), Library(model, tmp_path)
    whole, pieces, inside = (library.instance() for _ in range(3))
    most = int(re.findall(r"TRAIN_PIECES (\d+)", model.files["cnn.h"])[0])
    loss, counts = np.zeros(1, np.float32), []
    size, at = golden.x[0].nbytes, model.plan.input_offset
    for x, target in zip(golden.x, golden.target, strict=True):
        expected, calls = whole.train_step(x, target), 1
        assert library.call("train_begin", ctypes.byref(pieces.context), _pointer(x), _pointer(target)) == 0
        while library.call("train_continue", ctypes.byref(pieces.context), ctypes.c_uint32(1), _pointer(loss)) == Status.MORE:
            calls += 1
        counts.append(calls)
        assert loss[0] == expected
        inside.arena[at : at + size].view(np.float32)[...] = x.reshape(-1)
        assert inside.train_step(inside.arena[at : at + size].view(np.float32), target) == expected
        for device in (pieces, inside):
            np.testing.assert_array_equal(device.arena[: model.plan.fixed_bytes], whole.arena[: model.plan.fixed_bytes])
    assert max(counts) == most == counts[2] and counts[TRIALS * 3] < counts[0]


def test_what_is_skipped_or_not_finite_takes_no_turn(tmp_path: Path) -> None:
    model = compiled(tmp_path, loss="mse")
    device, reference = Library(model, tmp_path).instance(), ReferenceModel(model.program)
    golden, loss = golden_vectors(model.program, 2), np.zeros(1, np.float32)
    device.library.call("set_skip_below", ctypes.byref(device.context), ctypes.c_float(1e9))
    reference.skip_below = 1e9
    assert device.train_step(golden.x[0], golden.target[0]) == pytest.approx(reference.train_step(golden.x[0], golden.target[0]))
    huge = np.full_like(golden.target[0], 3e38)
    status = device.library.call("train_step", ctypes.byref(device.context), _pointer(golden.x[1]), _pointer(huge), _pointer(loss))
    with np.errstate(over="ignore"):
        assert Status(status) is Status.NOT_FINITE and np.isnan(reference.train_step(golden.x[1], huge))
    for one in (device, reference):
        assert state(one, CHOICE).tolist() == [0] * 5 and not state(one, FALLS).any()


def test_a_device_cannot_be_told(tmp_path: Path) -> None:
    device = Library(compiled(tmp_path), tmp_path).instance()
    for scheme, status in ((0, Status.COMMAND), (2, Status.COMMAND), (3, Status.ARGUMENT)):
        assert device.library.call("set_scheme", ctypes.byref(device.context), ctypes.c_uint32(scheme)) == status
    assert device.context.scheme == 0


def test_state_that_nobody_has_written_is_harmless(tmp_path: Path) -> None:
    """A host may write any numbers there."""
    model = compiled(tmp_path)
    library = Library(model, tmp_path)
    at = next(at for v, at in model.plan.fixed.items() if v.name == CHOICE)
    for turn, chosen in ((-1, 7), (100, -5), (2**31 - 1, 3), (TRIALS * 3, 99)):
        device, reference = library.instance(), ReferenceModel(model.program)
        device.arena[at : at + 8].view(np.int32)[:] = reference._named(CHOICE)[:2] = turn, chosen
        learn(device, model, 3)
        with np.errstate(over="ignore"):
            learn(reference, model, 3)
        np.testing.assert_array_equal(state(device, CHOICE), state(reference, CHOICE))


def test_the_scheme_that_pays_best_is_chosen() -> None:
    choice, falls = np.zeros(5, np.int32), np.zeros(3, np.float32)
    worth, took = (4.0, 2.0, 1.0), []
    for _ in range(40):
        scheme = in_turn(choice)
        took.append(scheme)
        if is_trial(choice):
            falls[scheme] += (1.0, 3.0, 5.0)[scheme]
        end_turn(choice, falls, scheme, 20, worth)
    assert took == [*(0, 1, 2) * TRIALS, *[1] * 8] * 2 and choice.tolist() == [0, 1, 8, 24, 8] and not falls.any()
    falls[:] = -1, float("nan"), -3
    choice[:2] = 3 * TRIALS - 1, 2
    end_turn(choice, falls, 0, 20, worth)
    assert choice[1] == 0, "under which none fell, the first"


def test_a_step_of_more_layers_is_worth_less(tmp_path: Path) -> None:
    for board in ("host", "mps2-an386"):
        head, some, full = compiled(tmp_path, board=board).program.worth
        assert head > some > full == 1.0


def test_boards_choose_the_same(tmp_path: Path) -> None:
    def made(board: str) -> Compiled:
        return compiled(tmp_path, board=board, scheme="bias-last:1", further_schemes=("head",), method="green:9")

    golden = golden_vectors(made("host").program, 12)
    assert_boards_equal_twins(["mps2-an386", "mps2-an500", "riscv-virt"], made, golden, tmp_path)


def test_what_does_not_fit_is_said(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="chooses among the schemes that are compiled; 1 is given"):
        compiled(tmp_path, further_schemes=())
    with pytest.raises(ModelError, match="most steps do nothing yet"):
        compiled(tmp_path, optimiser=Optimiser(accumulate=4))
    with pytest.raises(ModelError, match="leaves nothing beside trials: 4 steps for each of 3 schemes"):
        compiled(tmp_path, method="green:12")
    with pytest.raises(TinytrainError, match="after how many steps"):
        method("green:0")


def digits(first: int, end: int) -> tuple[Array, Array]:
    found = load_digits()
    return np.float32(found.images[first:end, None] / 16), found.target[first:end]


@pytest.mark.parametrize("board", ["host", "mps2-an386"])
def test_firmware_learns_a_task(board: str, tmp_path: Path) -> None:
    """What a step costs differs by board, and so may the choice: it learns by either."""
    build = tinytrain.load(save_model(tmp_path, "cnn")).compile(board, ("head", "last:2", "full"), lr=0.05, method="green:60")
    with build.twin() if board == "host" else build.emulator() as device:
        device.train(*digits(0, 500))
        assert (device.evaluate(*digits(1400, 1500)).accuracy or 0.0) > 0.8


def test_train_says_what_it_chose_and_refuses_to_be_told(tmp_path: Path) -> None:
    out, data, (x, y) = tmp_path / "out", tmp_path / "data.npz", digits(0, 300)
    np.savez(data, x=x, y=y)
    schemes = ("--scheme", "head", "--scheme", "last:2", "--method", "green:40", "--lr", 0.03)
    succeed("compile", save_model(tmp_path, "cnn"), "-o", out, *schemes)
    message = sentence("train", out, "--data", data, "--use-scheme", 1)
    assert message == (
        "tinytrain: cnn chooses among its schemes by itself (--method green): scheme 1 would change nothing.\n"
        "Leave --use-scheme out, or compile it without --method green.\n"
    )
    text = succeed("train", out, "--data", data, "--epochs", 2)
    found = re.findall(r"schemes    head ([0-9]+), last:2 ([0-9]+) steps; next (head|last:2)\n", text)
    assert [int(head) + int(last) for head, last, _ in found] == [270, 540]
