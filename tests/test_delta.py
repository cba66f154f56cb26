# SPDX-License-Identifier: Apache-2.0
"""What training has changed goes out and comes in again, to the same bytes; what is damaged or foreign changes nothing."""

from __future__ import annotations

import ctypes
import struct
import zlib
from pathlib import Path

import numpy as np
import onnx
import pytest
from ctypes_model import Instance, Library

from tinytrain import zoo
from tinytrain.compiler import Compiled, Options, compile_model
from tinytrain.device.commands import Status
from tinytrain.emit.golden import golden_vectors
from tinytrain.gradient.update import Optimiser
from tinytrain.ir.types import Role

HEAD = 32


class Buffer(ctypes.Structure):
    _fields_ = (("bytes", ctypes.c_void_p), ("room", ctypes.c_uint32), ("used", ctypes.c_uint32))


def compiled(folder: Path, **options: object) -> Compiled:
    onnx.save(zoo.model("cnn"), folder / "model.onnx")
    return compile_model(folder / "model.onnx", Options(exact_seconds=0.0, **options))  # type: ignore[arg-type]


def exported(device: Instance, room: int = 1 << 20) -> tuple[Status, bytes]:
    memory = ctypes.create_string_buffer(room)
    buffer = Buffer(ctypes.addressof(memory), room, 0)
    take = ctypes.cast(device.library.library.tt_delta_take, ctypes.c_void_p)
    status = device.library.call("export_delta", ctypes.byref(device.context), take, ctypes.byref(buffer))
    return Status(status), memory.raw[: buffer.used]


def imported(device: Instance, delta: bytes) -> Status:
    return Status(device.library.call("import_delta", ctypes.byref(device.context), delta, ctypes.c_uint32(len(delta))))


def weights(device: Instance) -> dict[str, bytes]:
    stored = device.stored()
    return {v.name: stored[v.name].tobytes() for v in device.library.compiled.program.stored(Role.PARAM)}


def sealed(body: bytes) -> bytes:
    return body + struct.pack("<I", zlib.crc32(body))


@pytest.mark.parametrize("options", [{}, {"scheme": "last:1"}, {"dtype": "fp16"}, {"optimiser": Optimiser(0.01, 0.9)}], ids=str)
def test_what_is_exported_comes_back(options: dict[str, object], tmp_path: Path) -> None:
    program = compiled(tmp_path, **options)
    library, golden = Library(program, tmp_path), golden_vectors(program.program, 3)
    device, other = library.instance(), library.instance()
    status, nothing = exported(device)
    assert (status, len(nothing)) == (Status.OK, HEAD + 8), "nothing has changed"
    for x, target in zip(golden.x, golden.target, strict=True):
        device.train_step(x, target)
    status, delta = exported(device)
    assert status is Status.OK and delta == sealed(delta[:-4])
    other.train_step(golden.x[1], golden.target[1])
    assert imported(other, delta) is Status.OK
    assert weights(other) == weights(device) and other.context.steps == 3
    assert exported(other) == (Status.OK, delta)
    assert imported(other, nothing) is Status.OK and weights(other) == weights(library.instance())


def test_few_changes_make_a_small_delta(tmp_path: Path) -> None:
    program = compiled(tmp_path)
    device = Library(program, tmp_path).instance()
    at = program.plan.fixed[program.program.stored(Role.PARAM)[0]]
    device.arena[at] ^= 1
    device.arena[at + 8] ^= 1                             # near enough to be one run
    device.arena[at + 60] ^= 1
    delta = exported(device)[1]
    assert len(delta) == HEAD + 12 + 9 + 12 + 1 + 8


def test_what_is_damaged_or_foreign_changes_nothing(tmp_path: Path) -> None:
    program = compiled(tmp_path)
    device = Library(program, tmp_path).instance()
    golden = golden_vectors(program.program, 1)
    device.train_step(golden.x[0], golden.target[0])
    delta, before = exported(device)[1], device.arena[: program.plan.fixed_bytes].copy()
    assert exported(device, len(delta) - 1)[0] is Status.LENGTH
    run = delta[:HEAD]
    wrong = {
        "cut": (delta[:-5], Status.FRAME), "empty": (b"", Status.LENGTH), "more": (delta + b"\0", Status.FRAME),
        "flipped": (delta[:50] + bytes([delta[50] ^ 4]) + delta[51:], Status.FRAME), "magic": (b"?" + delta[1:], Status.FRAME),
        "newer": (sealed(delta[:4] + b"\2" + delta[5:-4]), Status.STORE_NEWER),
        "model": (sealed(delta[:8] + bytes([delta[8] ^ 1]) + delta[9:-4]), Status.STORE_FOREIGN),
        "layout": (sealed(delta[:24] + bytes([delta[24] ^ 1]) + delta[25:-4]), Status.STORE_FOREIGN),
        "tensor": (sealed(run + struct.pack("<III", 99, 0, 4) + bytes(4) + b"\xff" * 4), Status.FRAME),
        "beyond": (sealed(run + struct.pack("<III", 0, 2**32 - 4, 8) + bytes(8) + b"\xff" * 4), Status.FRAME),
        "long": (sealed(run + struct.pack("<III", 0, 0, 2**31) + bytes(8) + b"\xff" * 4), Status.FRAME),
        "no end": (sealed(run + bytes(4)), Status.FRAME),
    }
    for name, (data, status) in wrong.items():
        assert imported(device, data) is status, name
    np.testing.assert_array_equal(device.arena[: program.plan.fixed_bytes], before)
