# SPDX-License-Identifier: Apache-2.0
"""A device that answers nonsense in whole frames: one sentence, soon, and no result on disk is touched."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cli_runs import run, save_data, save_model, sentence, succeed, tree
from numpy_device import NumpyDevice, made, on_numpy

from tinytrain.compiler import Compiled
from tinytrain.device.commands import MEANING, Command, Status
from tinytrain.device.link import Link
from tinytrain.device.packets import pack_frame
from tinytrain.device.project import Project
from tinytrain.device.session import Session
from tinytrain.errors import DataError, DeviceError
from tinytrain.target.board import load_board

SHORT, LONG = 150, 1500
Damage = Callable[[Command, bytes], bytes]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Compiled, Path]:
    folder = tmp_path_factory.mktemp("nonsense")
    compiled = made(save_model(folder), folder / "out")
    save_data(folder / "d.npz", count=6)
    with pytest.MonkeyPatch.context() as patch:
        on_numpy(patch, compiled)
        succeed("train", folder / "out", "--data", folder / "d.npz", "--epochs", 2)
    return compiled, folder / "out"


def mutated(rng: random.Random, when: int) -> Damage:
    """One of the answers, the `when`-th, or all from there on, become something else; CRC and number are right in most."""
    kind, stays, count = rng.randrange(8), rng.random() < 0.5, [0]

    def damage(command: Command, body: bytes) -> bytes:
        count[0] += 1
        if not (count[0] == when or (stays and count[0] > when)):
            return body
        head, payload = body[:4], body[4:]
        match kind:
            case 0:
                return head + payload[: rng.randrange(len(payload) + 1)]
            case 1:
                return head + payload + rng.randbytes(rng.randrange(1, 300))
            case 2:
                return head + rng.randbytes(len(payload))
            case 3:
                return bytes([rng.randrange(255), *head[1:]]) + payload
            case 4:
                return b"\xff\0" + rng.randbytes(rng.randrange(1, 50)) + b"\0"
            case 5:
                return b"\xff"                            # silence
            case 6:
                return head + struct.pack("<f", rng.choice([np.nan, np.inf, -np.inf, 1e38])) + payload[4:]
            case _:
                return b"\xff" + pack_frame(rng.randbytes(rng.randrange(1, 4)))
    return damage


def test_every_status_has_a_meaning_or_an_error_of_its_own() -> None:
    assert set(Status) - MEANING.keys() == {Status.OK, Status.FAULT, Status.OVERFLOW, Status.MORE}


def test_what_cannot_be_remembered_is_said(trained: tuple[Compiled, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    compiled, out = trained
    on_numpy(monkeypatch, compiled, lambda command, body: bytes([Status.NOT_FINITE]) + body[1:] if command is Command.REMEMBER else body)
    (x, target), said = compiled.program.entries["train"].inputs, "refused remember: the sample, or what the model makes of it, is"
    with Project.open(out).session() as session, pytest.raises(DeviceError, match=said) as caught:
        session.remember(np.zeros(x.shape, np.float32), np.zeros(target.shape, target.type.dtype.np))
    assert str(caught.value).endswith("\nScale the samples to the range that the model was made for.")


@pytest.mark.parametrize("count", [SHORT, pytest.param(LONG, marks=pytest.mark.long)])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_mutated_answers(count: int, trained: tuple[Compiled, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    compiled, out = trained
    good, rng = tree(out), random.Random(0)
    refused = 0
    for number in range(count):
        on_numpy(monkeypatch, compiled, mutated(rng, rng.choice([1, rng.randrange(2, 12), rng.randrange(12, 40)])), timeout=0.05)
        result = run("train", out, "--data", out.parent / "d.npz", "--force", "--epochs", 1 + number % 2)
        assert result.exit_code in (0, 2, 3)
        if result.exit_code:
            refused += 1
            lines = result.stderr.splitlines()
            assert lines[0].startswith("tinytrain: ") and len(lines) in (2, 3), result.stderr
            assert result.stderr.replace("\n", "").isprintable(), result.stderr
            if "epoch 1/" not in result.stdout:           # an epoch that went well is kept
                assert tree(out) == good, result.stderr
        for name, data in good.items():
            if data:
                (out / name).write_bytes(data)
    assert refused > count / 2


LIES: dict[str, tuple[Command, Callable[[bytes], bytes], str]] = {
    "no names": (Command.HELLO, lambda p: p[:80], "said hello with 7 parameters"),
    "no room": (Command.HELLO, lambda p: p[:40] + bytes(4) + p[44:], "payload 0"),
    "many": (Command.HELLO, lambda p: p[:32] + b"\xff" * 4 + p[36:], "said hello with 4,294,967,295 parameters"),
    "vast": (Command.HELLO, lambda p: p[:24] + b"\xff" * 4 + p[28:], "arena 4,294,967,295"),
    "type": (Command.PARAM_INFO, lambda p: p[:4] + b"\xff" * 4 + p[8:], "describes parameter 0 as 'fc1_weight' of type 4294967295"),
    "size": (Command.PARAM_INFO, lambda p: b"\xff" * 4 + p[4:], "with 4,294,967,295 bytes"),
    "twice": (Command.PARAM_INFO, lambda p: p[:8] + b"w\0", "describes parameter 1 as 'w'"),
    "other": (Command.PARAM_INFO, lambda p: p[:8] + b"z" + p[8:], "The device has 0 elements of 'fc1_weight'; expected 2,048"),
    "loss": (Command.TRAIN, lambda p: p[:4], "answered train with 4 bytes, expected 12"),
    "output": (Command.EVALUATE, lambda p: p + b"\0", "answered evaluate with 45 bytes, expected 44"),
    "weights": (Command.READ_PARAM, lambda p: p[1:], "answered read_param with 8,191 bytes, expected 8,192"),
    "counters": (Command.COUNTERS, lambda p: b"", "answered counters with 0 bytes, expected 28"),
    "nan": (Command.TRAIN, lambda p: struct.pack("<f", np.nan) + p[4:], "The loss is not finite after 1 samples of epoch 1"),
    "nan before": (Command.EVALUATE, lambda p: struct.pack("<f", np.nan) + p[4:], "is not finite before training"),
}


@pytest.mark.parametrize("case", LIES)
def test_lies(case: str, trained: tuple[Compiled, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    compiled, out = trained
    command, change, said = LIES[case]
    before = tree(out)
    on_numpy(monkeypatch, compiled, lambda c, body: body[:4] + change(body[4:]) if c is command else body)
    assert said in sentence("train", out, "--force", "--data", out.parent / "d.npz", exit_code=3 if case.startswith("nan") else 2)
    assert tree(out) == before


def test_a_loss_scale_that_is_none(tmp_path: Path) -> None:
    def damage(command: Command, body: bytes) -> bytes:
        return body[:4] + struct.pack("<4i", 2**31 - 1, 0, 0, 0) if command is Command.READ_PARAM else body

    device = NumpyDevice(made(save_model(tmp_path), tmp_path / "out", dtype="fp16"), damage)
    said = pytest.raises(DeviceError, match=r"says that gradients are 2\^2,147,483,647 times what they are")
    with Session(device, load_board("host")) as session, said:
        session.scale()


class Endless:
    """Never silent, never an answer."""

    name = "the endless device"
    doubt = ""

    def __init__(self, chunk: bytes) -> None:
        self.chunk = chunk

    def write(self, data: bytes, deadline: float) -> None:
        pass

    def read(self, deadline: float) -> bytes:
        return self.chunk

    def close(self) -> None:
        pass


STREAMS = {"zeros": b"\0" * 65536, "noise": b"\x55" * 65536, "late": pack_frame(b"\xfe\x80\0\0") * 1000, "damaged": b"\0\x02x" * 1000}


@pytest.mark.parametrize("kind", STREAMS)
def test_a_stream_without_end(kind: str) -> None:
    with pytest.raises(DeviceError, match=r"did not answer hello within 0\.3 s"):
        Session(Endless(STREAMS[kind]), load_board("host"), timeout=0.3)
    with pytest.raises(DeviceError):
        Link(Endless(STREAMS[kind]), timeout=0.3).call(Command.INFER)


@pytest.fixture
def session(trained: tuple[Compiled, Path]) -> Iterator[Session]:
    with Session(NumpyDevice(trained[0]), load_board("host")) as found:
        yield found


def test_numbers_that_a_parameter_cannot_hold(session: Session) -> None:
    for value in (np.full(10, np.nan), np.full(10, 1e39), np.full(10, np.inf)):
        with pytest.raises(DataError, match=r"Parameter fc3_bias of mlp is of type float32, found numbers that it cannot hold"):
            session.set_params({"fc3_bias": value})


def test_a_board_without_an_emulator(trained: tuple[Compiled, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, out = trained
    monkeypatch.setattr(Project, "board", replace(load_board("mps2-an386"), name="kit", machine=()))
    monkeypatch.setattr(Project, "elf", lambda self: tmp_path / "kit.elf")
    for command in (("train", "--force"), ("infer",)):
        text = sentence(*command, out, "--data", out.parent / "d.npz")
        assert "Board kit has no emulator; expected one that this computer can run.\nCompile for --board host, or for one that" in text
