# SPDX-License-Identifier: Apache-2.0
"""The link on lines that lose and damage bytes: each request is executed once, and weights are those of a clean line, bit for bit."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from fake_firmware import need_tools, write_fake
from fuzz_link import clang, fuzz
from line_device import Damage, Device, Line, build_device

from tinytrain import zoo
from tinytrain.compiler import Options, compile_model, write
from tinytrain.device import delta
from tinytrain.device.commands import Command
from tinytrain.device.link import Link
from tinytrain.device.packets import Symbols, checked, cobs_encode, pack_frame, pack_symbols
from tinytrain.device.session import Session
from tinytrain.errors import DeviceError
from tinytrain.target.board import load_board

X, TARGET = np.array([0.15, -0.025, 0, 0.3], np.float32), np.array([0.5, 1, 0], np.float32)
SAMPLE = X.tobytes() + TARGET.tobytes()
LINES = {
    "clean": Damage(), "lost 0.1 %": Damage(0.001), "flipped 1 %": Damage(0, 0.01), "lost 3 %": Damage(0.03),
    "half and half": Damage(0.15, 0.15), "lost 30 %": Damage(0.3), "flipped 30 %": Damage(0, 0.3),
}
LINE_RATE = 0.8                                           # of what a line can carry, at least, is payload where it is clean


@pytest.fixture(scope="module")
def fake(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Device]:
    """New devices with the model of tests/fake."""
    need_tools(load_board("host"))
    folder = tmp_path_factory.mktemp("fake")
    library = build_device(write_fake(folder, load_board("host")))
    return lambda: Device(library, folder)


def on(device: Device, damage: Damage, timeout: float = 600.0) -> tuple[Line, Link]:
    line = Line(device, Damage(damage.lost, damage.flipped, seed=1))
    return line, Link(line, timeout, clock=line.clock, nonce=0x1234567)


@pytest.mark.parametrize("kind", LINES)
def test_each_step_is_made_once(kind: str, fake: Callable[[], Device]) -> None:
    def trained(damage: Damage) -> tuple[bytes, int, list[bytes]]:
        _, link = on(fake(), damage)
        link.hello()
        losses = [link.call(Command.TRAIN, SAMPLE) for _ in range(12)]
        return link.call(Command.READ_PARAM, struct.pack("<I", 48)), struct.unpack("<Q5I", link.call(Command.COUNTERS))[1], losses

    assert trained(LINES[kind]) == trained(Damage())


@pytest.mark.parametrize("kind", ["half and half", "lost 30 %", "flipped 30 %"])
def test_what_is_lost_is_soon_sent_again(kind: str, fake: Callable[[], Device]) -> None:
    """Seconds of silence until the session is open, and for each step; they were up to 150 and 22."""
    for seed in range(3):
        line, link = on(fake(), Damage())
        line.damage = Damage(LINES[kind].lost, LINES[kind].flipped, seed)
        link.hello()
        opened = line.now
        for _ in range(20):
            link.call(Command.TRAIN, SAMPLE)
        assert opened < 20
        assert line.now - opened < 20 * 4


@pytest.mark.parametrize("kind", ["flipped 1 %", "half and half"])
def test_a_delta_goes_out_and_in_again(kind: str, fake: Callable[[], Device]) -> None:
    _, clean = on(fake(), Damage())
    clean.hello()
    line, link = on(fake(), LINES[kind])
    with Session(line, load_board("host"), link=link) as session:
        compiled = {"layer.weight": session.get_params()["layer.weight"]}
        for device in (clean, link):
            device.call(Command.TRAIN, SAMPLE)
        data = delta.export(session)
        head, body = delta.opened(data, "the line")
        assert data == clean.call(Command.EXPORT_DELTA, struct.pack("<I", 1000)) and head.steps == 1
        session.reset()
        delta.put(session, head, compiled, delta.applied(body, compiled, "the line"))
        assert delta.export(session) == data


@pytest.mark.parametrize("kind", ["half and half"])
def test_a_generated_model_learns_the_same(kind: str, tmp_path: Path) -> None:
    """With samples longer than any packet that passes such a line."""
    need_tools(load_board("host"))
    (tmp_path / "m.onnx").write_bytes(zoo.model("mlp").SerializeToString())
    write(compile_model(tmp_path / "m.onnx", Options(exact_seconds=0.0)), tmp_path / "out")
    library = build_device(tmp_path / "out")
    rng = np.random.default_rng(0)
    samples = [(rng.normal(size=64).astype(np.float32), int(rng.integers(10))) for _ in range(2)]

    def learned(damage: Damage) -> dict[str, bytes]:
        line, link = on(Device(library, tmp_path), damage)
        with Session(line, load_board("host"), link=link) as session:
            for x, y in samples:
                session.train_step(x, y)
            line.damage = Damage()                        # what was learned is read on a clean line: it is long
            return {name: value.tobytes() for name, value in session.get_params().items()}

    assert learned(LINES[kind]) == learned(Damage())


def test_a_clean_line_is_used(tmp_path: Path) -> None:
    """Of the byte times of both directions, of which only one is in use at a time, 80 % and more carry the sample itself."""
    need_tools(load_board("host"))
    (tmp_path / "m.onnx").write_bytes(zoo.model("mlp").SerializeToString())
    write(compile_model(tmp_path / "m.onnx", Options(exact_seconds=0.0)), tmp_path / "out")
    line, link = on(Device(build_device(tmp_path / "out"), tmp_path), Damage())
    with Session(line, load_board("host"), link=link) as session:
        session.train_step(np.ones(64, np.float32), 1)
        line.sent = line.received = 0
        for _ in range(100):
            session.train_step(np.ones(64, np.float32), 1)
        assert 100 * (4 * 64 + 4) / (line.sent + line.received) >= LINE_RATE
        assert link.counts.silences == 0
        line.sent = line.received = 0
        read = sum(value.nbytes for value in session.get_params().values())
        assert read / (line.sent + line.received) >= LINE_RATE


def test_a_repeated_request_is_answered_and_not_executed_again(fake: Callable[[], Device]) -> None:
    line, link = on(fake(), Damage())
    link.hello()
    loss = link.call(Command.TRAIN, SAMPLE)
    head = struct.pack("<HHBBHII", link._number, 0, Command.TRAIN, 0, 0, 0, len(SAMPLE))
    again = line.device.give(pack_frame(head + SAMPLE, link._token))
    assert loss in again.replace(b"\0", b"") or len(again) > len(loss)
    assert struct.unpack("<Q5I", link.call(Command.COUNTERS))[1] == 1


def test_numbers_come_round(fake: Callable[[], Device]) -> None:
    _, link = on(fake(), Damage())
    link.hello()
    for _ in range(0x7FFF + 3):
        link.call(Command.SET_LR, struct.pack("<f", 0.5))
    assert link._number == 3
    assert link.counts.silences == 0


def test_nothing_is_written_without_the_token(fake: Callable[[], Device]) -> None:
    line, link = on(fake(), Damage())
    link.hello()
    before = link.call(Command.READ_PARAM, struct.pack("<I", 48))
    for command, payload in ((Command.WRITE_PARAM, bytes(48)), (Command.RESET, b""), (Command.TRAIN, SAMPLE)):
        body = struct.pack("<HHBBHII", link._number + 1, 0, command, 0, 0, 0, len(payload)) + payload
        for token in (0, 1, link._token ^ 1):
            assert line.device.give(pack_frame(body, token)) == b""
    assert link.call(Command.READ_PARAM, struct.pack("<I", 48)) == before


def test_a_device_that_was_reset_and_one_that_was_taken_over(fake: Callable[[], Device]) -> None:
    line, link = on(fake(), Damage())
    link.hello()
    line.device.reset()
    with pytest.raises(DeviceError, match=r"was reset; what it had learned is lost\.\nGo on after the last finished epoch with --resume"):
        link.call(Command.TRAIN, SAMPLE)
    line, link = on(fake(), Damage())
    link.hello()
    other = Link(line, clock=line.clock, nonce=99)
    other.hello()
    with pytest.raises(DeviceError, match=r"talks to another program now"):
        link.call(Command.TRAIN, SAMPLE)
    assert struct.unpack("<Q5I", other.call(Command.COUNTERS))[1] == 0


def test_an_older_device_is_named(fake: Callable[[], Device]) -> None:
    line, link = on(fake(), Damage())
    line.device.give = lambda data: pack_frame(b"\0\5\0\0")   # type: ignore[method-assign]
    with pytest.raises(DeviceError, match=r"speaks an older version of the link protocol, expected 3\.\nCompile the project again"):
        link.hello()


def test_a_request_that_never_arrives_whole_goes_in_pieces(fake: Callable[[], Device]) -> None:
    """However well short packets do on that line."""
    line, link = on(fake(), Damage())
    give = line.device.give
    line.device.give = lambda data: give(data if len(data) < 60 else data[:-9])   # type: ignore[method-assign]
    link.hello()
    link.call(Command.WRITE_PARAM, bytes(48))
    assert link.call(Command.READ_PARAM, struct.pack("<I", 48)) == bytes(48)
    assert link.counts.forms is not None
    assert link.counts.forms["16 bytes"] > 3
    with pytest.raises(DeviceError, match="refused infer: the sample has the wrong length"):
        link.call(Command.INFER, bytes(4000))             # more than the device has room for


def test_symbols_survive_what_becomes_of_single_bytes() -> None:
    rng = random.Random(0)
    for _ in range(50):
        body, token = rng.randbytes(8), rng.getrandbits(32)
        sent, votes = pack_symbols(body, token), Symbols()
        assert len(sent) == 128
        data = bytearray(sent)
        del data[rng.randrange(128)]
        data[rng.randrange(96)] ^= 1 << rng.randrange(8)
        found = [packet for byte in data if (packet := votes.take(byte)) is not None]
        assert checked(found[-1], token) == body


def mutated(rng: random.Random, good: bytes) -> bytes:
    """A frame that is not `good`, or random bytes."""
    data = bytearray(good if rng.random() < 0.7 else rng.randbytes(rng.randrange(1, 120)))
    for _ in range(rng.randrange(1, 4)):
        at = rng.randrange(len(data))
        match rng.randrange(3):
            case 0:
                data[at] ^= 1 << rng.randrange(8)
            case 1:
                data[at:at] = rng.randbytes(rng.randrange(1, 4))
            case _:
                del data[at : at + rng.randrange(1, 4)]
                data = data or bytearray(b"\0")
    return bytes(data) if good.strip(b"\0") not in data else b"\0\1"


@pytest.mark.parametrize("count", [5_000, pytest.param(1_000_000, marks=pytest.mark.long)])
def test_bad_frames_change_nothing(count: int, fake: Callable[[], Device]) -> None:
    line, link = on(fake(), Damage())
    link.hello()
    read = struct.pack("<I", 48)
    before, rng = link.call(Command.READ_PARAM, read), random.Random(0)
    body = struct.pack("<HHBBHII", link._number + 1, 0, Command.WRITE_PARAM, 0, 0, 0, 48) + bytes(48)
    good = pack_frame(body, link._token)
    for number in range(count):
        line.device.give(mutated(rng, good))
        if number % 1000 == 0:
            line.device.give(b"\0" + cobs_encode(body) + b"\0")
    line.device.give(b"\0")
    assert link.call(Command.READ_PARAM, read) == before


@pytest.mark.skipif(clang() is None, reason="needs clang's libFuzzer")
def test_short_fuzzing(tmp_path: Path) -> None:
    """`make fuzz-link` does this for ten minutes."""
    done = fuzz(tmp_path, "-runs=20000")
    assert done.returncode == 0, done.stderr[-3000:]
