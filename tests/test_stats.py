# SPDX-License-Identifier: Apache-2.0
"""What a device says of itself; and that all of it is in the context: a library has no variables."""

from __future__ import annotations

import ctypes
import subprocess
from pathlib import Path

import numpy as np
import onnx
import pytest
from cli_runs import sentence, succeed
from ctypes_model import STORE, Instance, Library, _pointer
from fake_firmware import need_tools

from tinytrain import zoo
from tinytrain.compiler import Compiled, Options, compile_model
from tinytrain.device import stats as device_stats
from tinytrain.device.commands import Status
from tinytrain.device.project import Project
from tinytrain.device.store import Kept
from tinytrain.emit.golden import golden_vectors
from tinytrain.paths import data_dir
from tinytrain.target.board import load_board

NAMES = ("steps", "skipped", "not_finite", "overflowed", "loss_scale", "sequence", "torn", "foreign", "newer")


class Stats(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_int32 if name == "loss_scale" else ctypes.c_uint32) for name in NAMES)


def compiled(folder: Path, **options: object) -> Compiled:
    onnx.save(zoo.model("cnn"), folder / "model.onnx")
    return compile_model(folder / "model.onnx", Options(exact_seconds=0.0, **options))  # type: ignore[arg-type]


def stats(device: Instance) -> dict[str, int]:
    found = Stats()
    assert device.library.call("stats", ctypes.byref(device.context), ctypes.byref(found)) == Status.OK
    return {name: getattr(found, name) for name in NAMES}


@pytest.mark.parametrize("dtype", ["fp32", "fp16"])
def test_samples_are_counted_by_what_became_of_them(dtype: str, tmp_path: Path) -> None:
    program = compiled(tmp_path, dtype=dtype)
    golden, device = golden_vectors(program.program, 3), Library(program, tmp_path).instance()
    scale = 10 if dtype == "fp16" else 0
    assert stats(device) == {**dict.fromkeys(NAMES, 0), "loss_scale": scale}
    for x, target in zip(golden.x, golden.target, strict=True):
        device.train_step(x, target)
    device.library.call("set_skip_below", ctypes.byref(device.context), ctypes.c_float(np.inf))
    device.train_step(golden.x[0], golden.target[0])
    loss = np.zeros(1, np.float32)
    bad = np.full_like(golden.x[0], np.nan)
    given = map(_pointer, (bad, golden.target[0], loss))
    assert device.library.call("train_step", ctypes.byref(device.context), *given) == Status.NOT_FINITE
    assert stats(device) == {**dict.fromkeys(NAMES, 0), "steps": 5, "skipped": 1, "not_finite": 1, "loss_scale": scale}
    assert device.library.call("stats", ctypes.byref(device.context), None) == Status.ARGUMENT


@pytest.mark.parametrize("options", [{}, {"dtype": "fp16"}], ids=["fp32", "fp16"])
def test_a_library_has_no_variables(options: dict[str, object], tmp_path: Path) -> None:
    program = compiled(tmp_path, **options)
    for file, text in program.files.items():
        (tmp_path / file).write_text(text, encoding="utf-8")
    sources = [tmp_path / f"{program.program.name}.c", *map(Path, STORE)]
    for source in sources:
        target = tmp_path / f"{source.stem}.o"
        subprocess.run(["gcc", "-std=c99", "-O1", "-fno-pic", f"-I{data_dir('runtime_c')}", "-c", source, "-o", target], check=True)
        listed = subprocess.run(["nm", target], check=True, capture_output=True, text=True).stdout
        assert not [line for line in listed.splitlines() if line.split()[-2] in "bBdDC"], listed


@pytest.mark.parametrize("board", ["host", "mps2-an386"])
def test_stats_over_the_link(board: str, tmp_path: Path) -> None:
    need_tools(load_board(board))
    onnx.save(zoo.model("cnn"), tmp_path / "model.onnx")
    succeed("compile", tmp_path / "model.onnx", "--board", board, "--dtype", "fp16", "-o", tmp_path / "out")
    said = succeed("stats", tmp_path / "out").splitlines()
    assert said[1:4] == [
        "samples    0 trained, 0 skipped, 0 left out for what was not finite", "fp16       loss scale 1,024, 0 steps overflowed",
        "flash      no save; 0 saves of other models or schemes, 0 of later formats",
    ]
    assert said[0].startswith("device     model on ") and [line[:5] for line in said[4:]] == ([] if board == "host" else ["stack", "clock"])
    with Project.open(tmp_path / "out").session() as session:
        x = np.zeros(64, np.float32)
        session.train_step(x, 1)
        session.set_skip_below(np.inf)
        session.train_step(x, 1)
        assert np.isnan(session.train_step(np.full_like(x, np.nan), 1).loss)
        assert device_stats.stats(session) == device_stats.Stats(1, 1, 0, 10, Kept(3, 0, 0, 0, 0))


def test_firmware_that_does_not_train_has_none(tmp_path: Path) -> None:
    onnx.save(zoo.model("mlp"), tmp_path / "model.onnx")
    succeed("compile", tmp_path / "model.onnx", "--loss", "none", "-o", tmp_path / "out")
    assert "refused stats: this firmware was not compiled for that command" in sentence("stats", tmp_path / "out")
