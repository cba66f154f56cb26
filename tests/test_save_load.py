# SPDX-License-Identifier: Apache-2.0
"""`NAME_save`, `NAME_load`, `NAME_autosave` and `NAME_factory_reset` of generated models, on flash that is a list of bytes."""

from __future__ import annotations

import ctypes
from pathlib import Path

import numpy as np
import onnx
import pytest
from ctypes_model import Instance, Library

from tinytrain import zoo
from tinytrain.compiler import Options, compile_model
from tinytrain.emit.golden import golden_vectors
from tinytrain.gradient.update import Optimiser

OK, ARGUMENT, EMPTY, FOREIGN, SPACE, FLASH = 0, 2, 16, 18, 20, 21
OPTIMISER = 1

_ERASE = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_uint32)
_PROGRAM = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_uint32, ctypes.c_void_p)
_READ = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_uint32, ctypes.c_void_p, ctypes.c_uint32)


class Flash(ctypes.Structure):
    """tt_flash of 128 pages of 1 KB, or as many as `pages`."""

    _fields_ = (
        ("erase", _ERASE), ("program", _PROGRAM), ("read", _READ),
        *((name, ctypes.c_uint32) for name in ("base", "page_bytes", "pages", "word_bytes")), ("driver", ctypes.c_void_p),
    )

    def __init__(self, pages: int = 128) -> None:
        self.content = bytearray(128 * 1024)
        self.fails = False
        self.erasures = 0
        super().__init__(_ERASE(self._erase), _PROGRAM(self._program), _READ(self._read), 0, 1024, pages, 8, None)

    def _erase(self, _: object, page: int) -> int:
        self.content[page : page + 1024] = b"\xff" * 1024
        self.erasures += 1
        return self.fails

    def _program(self, _: object, at: int, word: int) -> int:
        assert self.content[at : at + 8] == b"\xff" * 8
        self.content[at : at + 8] = ctypes.string_at(word, 8)
        return 0

    def _read(self, _: object, at: int, to: int, count: int) -> int:
        ctypes.memmove(to, bytes(self.content[at : at + count]), count)
        return self.fails


def library(folder: Path, **options: object) -> Library:
    onnx.save(zoo.model("mlp"), folder / "mlp.onnx")
    return Library(compile_model(folder / "mlp.onnx", Options(**options)), folder)  # type: ignore[arg-type]


def trained(device: Instance, steps: range) -> Instance:
    golden = golden_vectors(device.library.compiled.program, 12)
    for i in steps:
        device.train_step(golden.x[i], golden.target[i])
    return device


def call(device: Instance, name: str, flash: Flash | None, *more: int) -> int:
    return device.library.call(name, ctypes.byref(device.context), None if flash is None else ctypes.byref(flash), *more)


def assert_same(a: Instance, b: Instance) -> None:
    for (name, one), other in zip(a.stored().items(), b.stored().values(), strict=True):
        np.testing.assert_array_equal(one, other, err_msg=name)


@pytest.fixture(scope="module")
def momentum(tmp_path_factory: pytest.TempPathFactory) -> Library:
    """Its gradients are summed over three samples, so that a save may lie between two updates."""
    return library(tmp_path_factory.mktemp("momentum"), optimiser=Optimiser(0.05, momentum=0.9, accumulate=3))


def test_training_goes_on_with_the_same_bits(momentum: Library) -> None:
    flash, at_once = Flash(), trained(momentum.instance(), range(12))
    saved = trained(momentum.instance(), range(7))
    assert call(saved, "save", flash, OPTIMISER) == OK
    resumed = trained(momentum.instance(), range(2))
    assert call(resumed, "load", flash) == OK and resumed.context.steps == 7
    assert_same(saved, resumed)
    assert_same(at_once, trained(resumed, range(7, 12)))


def test_weights_alone_start_the_optimiser_anew(momentum: Library) -> None:
    flash, saved, fresh = Flash(), trained(momentum.instance(), range(7)), momentum.instance()
    assert call(saved, "save", flash, 0) == OK
    loaded = trained(momentum.instance(), range(4))
    assert call(loaded, "load", flash) == OK and loaded.context.count == 0 and loaded.context.steps == 7
    for v in momentum.compiled.plan.fixed:
        want = saved if v.role.name == "PARAM" else fresh
        np.testing.assert_array_equal(loaded.stored()[v.name], want.stored()[v.name], err_msg=v.name)


def test_autosave_and_factory_reset(momentum: Library) -> None:
    flash, device, fresh = Flash(), momentum.instance(), momentum.instance()
    erasures = []
    for i in range(8):
        trained(device, range(i, i + 1))
        assert call(device, "autosave", flash, 0, 4) == OK
        erasures.append(flash.erasures)
    assert len(set(erasures)) == 3 and erasures[2] == 0 < erasures[3] == erasures[6] < erasures[7]
    assert device.context.sequence == 2
    assert call(device, "factory_reset", flash) == OK
    assert_same(device, fresh)
    assert call(device, "load", flash) == EMPTY


def test_what_is_refused_changes_nothing(momentum: Library, tmp_path: Path) -> None:
    flash, device = Flash(), trained(momentum.instance(), range(3))
    before = device.arena.copy()
    assert call(device, "load", flash) == EMPTY
    assert call(library(tmp_path, scheme="bias").instance(), "save", flash, 0) == OK
    assert call(device, "load", flash) == FOREIGN and device.context.foreign == 1
    assert call(device, "save", Flash(4), 0) == SPACE
    assert [call(device, name, None, *more) for name, more in (("save", (0,)), ("load", ()), ("factory_reset", ()))] == [ARGUMENT] * 3
    flash.fails = True
    assert (call(device, "save", flash, 0), call(device, "load", flash), call(device, "factory_reset", flash)) == (FLASH,) * 3
    np.testing.assert_array_equal(device.arena, before)


def test_firmware_with_another_optimiser_keeps_the_weights(momentum: Library, tmp_path: Path) -> None:
    flash, plain = Flash(), library(tmp_path, optimiser=Optimiser(0.01)).instance()
    saved = trained(momentum.instance(), range(7))
    assert call(saved, "save", flash, OPTIMISER) == OK and call(plain, "load", flash) == OK
    want = {v.name: array for v, array in zip(momentum.compiled.plan.fixed, saved.stored().values(), strict=True) if v.role.name == "PARAM"}
    for name, array in want.items():
        np.testing.assert_array_equal(plain.stored()[name], array)
    assert plain.stored()["learning_rate"] == np.float32(0.01)
