# SPDX-License-Identifier: Apache-2.0
"""A device without a compiler or an emulator: the NumPy reference of a compiled model behind the link protocol, in this process."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_runs import save_data, save_model

from tinytrain.compiler import Compiled, Options, compile_model, write
from tinytrain.device.commands import Command, Status
from tinytrain.device.link import VERSION
from tinytrain.device.packets import pack_frame, unpack_frame
from tinytrain.device.project import Project
from tinytrain.device.session import Pieces, Session
from tinytrain.emit.project import link_keys
from tinytrain.gradient.update import Optimiser
from tinytrain.ir.types import DType, Role
from tinytrain.verify.reference import ReferenceModel

TAGS = list(DType)
TOKEN, READ = 7, 0x8000


class NumpyDevice:
    """A transport. `damage` changes each answer (status, three zeros, payload) before it is framed; what begins with 0xff goes as it is."""

    name = "the NumPy device"
    doubt = ""

    def __init__(self, compiled: Compiled, damage: Callable[[Command, bytes], bytes] | None = None) -> None:
        self.compiled, self.damage = compiled, damage
        self.model = ReferenceModel(compiled.program)
        self.keys = link_keys(compiled.program)
        self.stored = compiled.program.stored(Role.PARAM, Role.STATE)
        self.answers, self.calls = bytearray(), 0
        self.nonce, self.number, self.last = 0, 0, b""

    def write(self, data: bytes, deadline: float) -> None:
        for encoded in filter(None, data.split(b"\0")):
            body = next(filter(None, (unpack_frame(encoded, token) for token in (0, TOKEN))), None)
            assert body is not None, "the host sends whole frames"
            number, at = struct.unpack_from("<HH", body)
            token = TOKEN if number & ~READ else 0
            if not number & READ and len(body) >= 16 and (number != self.number or not number):
                command, _, index, offset, count = struct.unpack_from("<BBHII", body, 4)
                payload = body[16 : 16 + count]
                if command == Command.HELLO:
                    self.nonce = int.from_bytes(payload, "little")
                self._execute(number, Command(command), index, offset, payload)
            if self.last[:1] == b"\xff":
                self.answers += self.last[1:]
            elif number & ~READ == self.number:
                self.answers += pack_frame(struct.pack("<HH", number | READ, at) + self.last[4 * at :], token)

    def _execute(self, number: int, command: Command, index: int, offset: int, payload: bytes) -> None:
        status, payload = self._answer(command, index, offset, payload)
        answer = struct.pack("<BBH", status, 0, 0) + payload
        made = answer if self.damage is None else self.damage(command, answer)
        self.number, self.last = number, made if made[:1] == b"\xff" else made[:4] + struct.pack("<I", len(made[4:])) + made[4:]

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
            arena = self.compiled.plan.arena_bytes
            numbers = (VERSION, self.nonce, TOKEN, x.nbytes, target.nbytes, y.nbytes, arena, 64, len(self.stored), 1, 4096, 1)
            return Status.OK, struct.pack("<12I32s", *numbers, hash_) + f"{program.name}\0{self.compiled.board.name}\0".encode()
        if command in (Command.INFER, Command.TRAIN, Command.EVALUATE):
            self.calls += 1
            sample = np.frombuffer(payload[: x.nbytes], x.dtype.np).reshape(x.shape)
            wanted = np.frombuffer(payload[x.nbytes :], target.dtype.np)
            if command is Command.INFER:
                return Status.OK, model.infer(sample).tobytes()
            if command is Command.TRAIN:
                before, loss = model.not_finite, model.train_step(sample, wanted)
                status = Status.NOT_FINITE if model.not_finite > before else Status.OVERFLOW if model.overflows else Status.OK
                return status, struct.pack("<fQ", loss, 0)
            loss, output = model.evaluate(sample, wanted)
            return Status.OK, struct.pack("<f", loss) + output.tobytes()
        if command is Command.PARAM_INFO:
            v = self.stored[index]
            return Status.OK, struct.pack("<II", v.type.nbytes, TAGS.index(v.type.dtype)) + f"{self.keys[v]}\0".encode()
        if command is Command.READ_PARAM:
            return Status.OK, model.state[self.stored[index]].tobytes()[offset : offset + int.from_bytes(payload, "little")]
        if command is Command.WRITE_PARAM:
            v = self.stored[index]
            data = bytearray(model.state[v].tobytes())
            data[offset : offset + len(payload)] = payload
            model.state[v] = np.frombuffer(bytes(data), v.type.dtype.np).reshape(v.shape)
        if command is Command.SET_LR:
            model.set_lr(*struct.unpack("<f", payload))
        if command is Command.SET_SKIP_BELOW:
            model.skip_below = struct.unpack("<f", payload)[0]
        if command is Command.SET_SKIP_ABOVE:
            loss = struct.unpack("<f", payload)[0]
            model.skip_above = loss if loss > 0 else np.inf
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
            input_quant=quant, pieces=Pieces.of(self.manifest), manifest=self.manifest,
        )

    monkeypatch.setattr(Project, "session", session)


def momentum_model(folder: Path) -> Compiled:
    """A model with a momentum, so that a state of its optimiser counts, and sessions of whose projects `on_numpy` can serve."""
    return made(save_model(folder), folder / "unused", optimiser=Optimiser(0.02, momentum=0.9))


def numpy_project(compiled: Compiled, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of that model, its data beside it as d.npz; sessions run on NumPy."""
    made(compiled.prepared.path, folder / "out", optimiser=compiled.options.optimiser)
    save_data(folder / "d.npz", count=20)
    on_numpy(monkeypatch, compiled)
    return folder / "out"
