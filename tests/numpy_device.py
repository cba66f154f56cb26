# SPDX-License-Identifier: Apache-2.0
"""A device without a compiler or an emulator: the NumPy reference of a compiled model behind the link protocol, in this process."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tinytrain.compiler import Compiled, Options, compile_model, write
from tinytrain.device.link import VERSION, Command, Status, pack_frame, unpack_frame
from tinytrain.device.project import Project
from tinytrain.device.session import Pieces, Session
from tinytrain.emit.project import link_keys
from tinytrain.ir.types import DType, Role
from tinytrain.verify.reference import ReferenceModel

TAGS = list(DType)


class NumpyDevice:
    """A transport. `damage` changes the body of each answer before it is framed; what it makes begin with a zero is sent as it is."""

    name = "the NumPy device"

    def __init__(self, compiled: Compiled, damage: Callable[[Command, bytes], bytes] | None = None) -> None:
        self.compiled, self.damage = compiled, damage
        self.model = ReferenceModel(compiled.program)
        self.keys = link_keys(compiled.program)
        self.stored = compiled.program.stored(Role.PARAM, Role.STATE)
        self.answers, self.calls = bytearray(), 0

    def write(self, data: bytes, deadline: float) -> None:
        for encoded in filter(None, data.split(b"\0")):
            body = unpack_frame(encoded)
            assert body is not None, "the host sends whole frames"
            seq, command, index, offset = struct.unpack_from("<BBHI", body)
            status, payload = self._answer(Command(command), index, offset, body[8:])
            answer = struct.pack("<BBH", seq, status, 0) + payload
            made = answer if self.damage is None else self.damage(Command(command), answer)
            self.answers += made if made[:1] == b"\0" else pack_frame(made)

    def read(self, deadline: float) -> bytes:
        data, self.answers = bytes(self.answers), bytearray()
        return data

    def close(self) -> None:
        pass

    def _answer(self, command: Command, index: int, offset: int, payload: bytes) -> tuple[Status, bytes]:
        program, model, hash_ = self.compiled.program, self.model, self.compiled.prepared.hash
        infer, train = program.entries["infer"], program.entries["train"]
        (x, y), target = (infer.inputs[0].type, infer.outputs[0].type), train.inputs[1].type
        if command is Command.HELLO:
            numbers = (VERSION, x.nbytes, target.nbytes, y.nbytes, self.compiled.plan.arena_bytes, 64, len(self.stored), 1, 4096, 1)
            return Status.OK, struct.pack("<10I32s", *numbers, hash_) + f"{program.name}\0{self.compiled.board.name}\0".encode()
        if command in (Command.INFER, Command.TRAIN, Command.EVALUATE):
            self.calls += 1
            sample = np.frombuffer(payload[: x.nbytes], x.dtype.np).reshape(x.shape)
            wanted = np.frombuffer(payload[x.nbytes :], target.dtype.np)
            if command is Command.INFER:
                return Status.OK, model.infer(sample).tobytes()
            if command is Command.TRAIN:
                loss = model.train_step(sample, wanted)
                return Status.OVERFLOW if model.overflows else Status.OK, struct.pack("<fQ", loss, 0)
            loss, output = model.evaluate(sample, wanted)
            return Status.OK, struct.pack("<f", loss) + output.tobytes()
        if command is Command.PARAM_INFO:
            v = self.stored[index]
            return Status.OK, struct.pack("<II", v.type.nbytes, TAGS.index(v.type.dtype)) + f"{self.keys[v]}\0".encode()
        if command is Command.READ_PARAM:
            return Status.OK, model.state[self.stored[index]].tobytes()
        if command is Command.WRITE_PARAM:
            v = self.stored[index]
            data = bytearray(model.state[v].tobytes())
            data[offset : offset + len(payload)] = payload
            model.state[v] = np.frombuffer(bytes(data), v.type.dtype.np).reshape(v.shape)
        if command is Command.SET_LR:
            model.set_lr(*struct.unpack("<f", payload))
        if command is Command.SET_SKIP_BELOW:
            model.skip_below = struct.unpack("<f", payload)[0]
        if command is Command.SET_SCHEME:
            model.set_scheme(*struct.unpack("<I", payload))
        return Status.OK, struct.pack("<Q5I", 0, self.calls, 0, 0, model.skipped, 0) if command is Command.COUNTERS else b""


def made(model: Path, folder: Path, **options: Any) -> Compiled:
    """A project that is not built."""
    compiled = compile_model(model, Options(exact_seconds=0.0, **options))
    write(compiled, folder)
    return compiled


def on_numpy(
    monkeypatch: pytest.MonkeyPatch, compiled: Compiled, damage: Callable[[Command, bytes], bytes] | None = None, timeout: float = 5.0
) -> None:
    """Every session of a project is one with a new NumPy device from now on."""
    def session(self: Project, **_: object) -> Session:
        assert self.board.is_host
        target, quant = self.manifest.target, self.manifest.input.quant
        return Session(
            NumpyDevice(compiled, damage), compiled.board, timeout=timeout, target_dtype=target.np if target else None,
            input_quant=quant, pieces=Pieces.of(self.manifest),
        )

    monkeypatch.setattr(Project, "session", session)
