# SPDX-License-Identifier: Apache-2.0
"""A training step in bounded pieces: the same bits, whatever the budget; nothing else gets at the arena meanwhile."""

from __future__ import annotations

import ctypes
import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from ctypes_model import Instance, Library, _pointer

from tinytrain import zoo
from tinytrain.compiler import Compiled, Options, compile_model
from tinytrain.device.commands import Status
from tinytrain.emit.golden import golden_vectors
from tinytrain.gradient.update import Optimiser
from tinytrain.ir.types import Array

KINDS: dict[str, dict[str, object]] = {
    "sgd": {}, "adam": {"optimiser": Optimiser(0.001, kind="adam")}, "accumulated": {"optimiser": Optimiser(0.01, 0.9, accumulate=2)},
    "fp16": {"dtype": "fp16"}, "two schemes": {"further_schemes": ("bias",)}, "no guards": {"guards": "none"},
}


def compiled(folder: Path, **options: object) -> Compiled:
    onnx.save(zoo.model("cnn"), folder / "cnn.onnx")
    return compile_model(folder / "cnn.onnx", Options(exact_seconds=0.0, **options))  # type: ignore[arg-type]


def call(device: Instance, entry: str, *args: object) -> Status:
    return Status(device.library.call(entry, ctypes.byref(device.context), *args))


def in_pieces(device: Instance, x: Array, target: Array, budgets: list[int]) -> tuple[float, int]:
    """(loss, calls) of a step that goes on with these budgets, the last one again and again."""
    loss = np.zeros(1, np.float32)
    assert call(device, "train_begin", _pointer(x), _pointer(target)) is Status.OK
    calls = 0
    while True:
        budget = ctypes.c_uint32(budgets[min(calls, len(budgets) - 1)])
        status, calls = call(device, "train_continue", budget, _pointer(loss)), calls + 1
        if status is not Status.MORE:
            assert status is Status.OK
            return float(loss[0]), calls


@pytest.mark.parametrize("kind", KINDS)
def test_any_budget_gives_the_same_bits(kind: str, tmp_path: Path) -> None:
    program = compiled(tmp_path, **KINDS[kind])
    golden, library = golden_vectors(program.program, 6), Library(program, tmp_path)
    found = re.search(r"TRAIN_PIECES (\d+)", program.files[f"{program.program.name}.h"])
    assert found is not None
    whole, most = library.instance(), int(found[1])
    others = {tuple(budgets): library.instance() for budgets in ([1], [3], [2, 1, 5, 0], [most], [0])}
    for i, (x, target) in enumerate(zip(golden.x, golden.target, strict=True)):
        if i == 4 and kind == "two schemes":
            for device in (whole, *others.values()):
                assert call(device, "set_scheme", ctypes.c_uint32(1)) is Status.OK
        loss = whole.train_step(x, target)
        for budgets, device in others.items():
            made, calls = in_pieces(device, x, target, list(budgets))
            assert made == loss and (calls <= most if budgets == (1,) else budgets not in ((most,), (0,)) or calls == 1)
            np.testing.assert_array_equal(device.arena[: program.plan.fixed_bytes], whole.arena[: program.plan.fixed_bytes])
            assert device.context.steps == whole.context.steps == i + 1


def test_a_step_that_has_begun_keeps_others_from_the_arena(tmp_path: Path) -> None:
    program = compiled(tmp_path)
    golden, library = golden_vectors(program.program, 1), Library(program, tmp_path)
    device, x, target = library.instance(), golden.x[0], golden.target[0]
    loss, y = np.zeros(1, np.float32), np.zeros(64, np.float32)
    assert call(device, "train_continue", ctypes.c_uint32(1), _pointer(loss)) is Status.ARGUMENT, "none has begun"
    assert call(device, "train_begin", _pointer(x), _pointer(target)) is Status.OK
    assert call(device, "train_continue", ctypes.c_uint32(2), _pointer(loss)) is Status.MORE
    before = device.arena.copy()
    assert call(device, "train_begin", _pointer(x), _pointer(target)) is Status.BUSY
    assert call(device, "train_step", _pointer(x), _pointer(target), _pointer(loss)) is Status.BUSY
    assert call(device, "infer", _pointer(x), _pointer(y)) is Status.BUSY
    assert call(device, "evaluate", _pointer(x), _pointer(target), _pointer(loss), _pointer(y)) is Status.BUSY
    assert call(device, "set_scheme", ctypes.c_uint32(0)) is Status.BUSY
    assert call(device, "train_continue", ctypes.c_uint32(0), None) is Status.ARGUMENT
    np.testing.assert_array_equal(device.arena, before)
    assert call(device, "train_continue", ctypes.c_uint32(0), _pointer(loss)) is Status.OK
    assert float(loss[0]) == library.instance().train_step(x, target)
    assert call(device, "train_begin", _pointer(x), _pointer(target)) is Status.OK
    assert call(device, "init", ctypes.c_void_p(device.arena.ctypes.data), ctypes.c_size_t(device.arena.size)) is Status.OK
    assert device.train_step(x, target) == float(loss[0]), "init drops a step"


def test_what_is_not_finite_ends_a_step_in_pieces(tmp_path: Path) -> None:
    program = compiled(tmp_path, loss="mse")
    golden, device = golden_vectors(program.program, 1), Library(program, tmp_path).instance()
    x, target, loss = golden.x[0], golden.target[0], np.zeros(1, np.float32)
    huge = np.full_like(target, 3e38)                     # its square is infinite
    assert call(device, "train_begin", _pointer(x), _pointer(huge)) is Status.OK
    assert call(device, "train_continue", ctypes.c_uint32(0), _pointer(loss)) is Status.NOT_FINITE and np.isnan(loss[0])
    assert (device.context.steps, device.context.not_finite, device.context.piece) == (1, 1, 0)
    device.train_step(x, target)
