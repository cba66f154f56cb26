# SPDX-License-Identifier: Apache-2.0
"""The link: frames, and the same conversation with the host twin and every emulated board, in fair weather and foul."""

from __future__ import annotations

import os
import shutil
import signal
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from fake_firmware import STACK_BYTES, build_fake
from hypothesis import given
from hypothesis import strategies as st

from tinytrain.device.commands import Command
from tinytrain.device.hosttwin import start_twin
from tinytrain.device.link import Link
from tinytrain.device.packets import cobs_decode, cobs_encode, pack_frame, unpack_frame
from tinytrain.device.process import ProcessTransport
from tinytrain.device.session import Session, open_session
from tinytrain.errors import DataError, DeviceError, ToolError
from tinytrain.target.board import board_names, load_board

EMULATED = [name for name in board_names() if load_board(name).machine]
X = np.array([0.15, -0.025, 0, 0.3], np.float32)
TARGET = np.array([0.5, 1, 0], np.float32)
HANG, FAULT, DEEP = -1000.0, -2000.0, -3000.0             # first inputs that make the fake model misbehave

Opener = Callable[..., Session]


@pytest.fixture(scope="session")
def firmware(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The fake model built for a board, once."""
    built: dict[str, Path] = {}

    def get(name: str) -> Path:
        if name not in built:
            built[name] = build_fake(tmp_path_factory.mktemp(name), name)
        return built[name]

    return get


@pytest.fixture
def opened(firmware: Callable[[str], Path]) -> Opener:
    def start(name: str, *, icount: bool = False, timeout: float = 300.0) -> Session:
        return open_session(firmware(name), load_board(name), icount=icount, timeout=timeout)

    return start


def expected(steps: int) -> tuple[list[float], np.ndarray]:
    """Losses and weights of the fake model in NumPy float32, in the order of its C."""
    w = (np.arange(12, dtype=np.float32) * np.float32(0.125)).reshape(3, 4)
    losses = []
    for _ in range(steps):
        y = np.zeros(3, np.float32)
        for k in range(4):
            y += w[:, k] * X[k]
        loss = np.float32(0)
        for d in y - TARGET:
            loss += d * d
        losses.append(float(loss))
        w -= np.float32(0.25) * (np.float32(2) * (y - TARGET)[:, None] * X)
    return losses, w.ravel()


@given(st.binary(max_size=1200))
def test_cobs_round_trip(data: bytes) -> None:
    encoded = cobs_encode(data)
    assert 0 not in encoded
    assert cobs_decode(encoded) == data
    assert len(encoded) <= len(data) + len(data) // 254 + 1


@pytest.mark.parametrize("size", [0, 1, 253, 254, 255, 508, 509])
def test_cobs_at_block_ends(size: int) -> None:
    for data in (bytes([7]) * size, bytes(size), bytes([7]) * size + b"\0", b"\0" + bytes([7]) * size):
        assert cobs_decode(cobs_encode(data)) == data


@given(st.binary(min_size=1, max_size=64), st.integers(0, 10_000), st.integers(1, 255))
def test_a_damaged_frame_is_noticed(body: bytes, where: int, flip: int) -> None:
    frame = bytearray(pack_frame(body)[1:-1])
    assert unpack_frame(bytes(frame)) == body
    frame[where % len(frame)] ^= flip
    assert unpack_frame(bytes(frame)) is None


@pytest.mark.parametrize("name", ["host", *EMULATED])
def test_conversation(opened: Opener, name: str) -> None:
    """hello, infer, train, evaluate, parameters, learning rate, counters, reset: equal to NumPy, bit for bit."""
    losses, weights = expected(5)
    with opened(name) as session:
        info = session.info
        assert (info.model, info.board, info.trains) == ("fake", name, True)
        assert (info.input_bytes, info.target_bytes, info.output_bytes, info.arena_bytes) == (16, 12, 12, 80)
        assert info.model_hash[:8] == bytes([1, 2, 3, 0, 255, 0, 0, 7])
        start = session.infer(X)
        assert [session.train_step(X, TARGET).loss for _ in range(5)] == losses
        params = session.get_params()
        np.testing.assert_array_equal(params["layer.weight"], weights)
        loss, y = session.evaluate(X, TARGET)
        assert loss == expected(6)[0][5]
        np.testing.assert_array_equal(y, session.infer(X))
        session.set_lr(0.0)
        session.train_step(X, TARGET)
        np.testing.assert_array_equal(session.get_params()["layer.weight"], weights)
        session.set_params({"layer.weight": np.ones((3, 4))})
        np.testing.assert_array_equal(session.infer(X), np.full(3, X[0] + X[1] + X[2] + X[3], np.float32))
        session.reset()
        np.testing.assert_array_equal(session.infer(X), start)
        counters = session.counters()
        assert counters.calls == 11
        if name != "host":
            assert counters.stack_reserved_bytes == STACK_BYTES
            assert 100 < counters.stack_bytes < STACK_BYTES


@pytest.mark.parametrize("name", EMULATED)
def test_instruction_counts_repeat(opened: Opener, name: str) -> None:
    counts = []
    for _ in range(2):
        with opened(name, icount=True) as session:
            counts.append([session.train_step(X, TARGET).instructions for _ in range(3)])
            assert session.counters().instructions == counts[-1][-1]
    assert counts[0] == counts[1]
    assert all(count is not None and 100 < count < 10_000 for count in counts[0])


def test_without_icount_nothing_is_called_instructions(opened: Opener) -> None:
    with opened("host", icount=True) as session:
        assert session.train_step(X, TARGET).instructions is None


@pytest.mark.parametrize("name", ["host", "mps2-an386", "riscv-virt"])
def test_resynchronises_after_garbage(opened: Opener, name: str) -> None:
    with opened(name) as session:
        link = session.link
        for garbage in (b"garbage without end", b"\x05ab\0\0\xff", bytes(range(256)) * 3, b"\0" * 50, pack_frame(b"short")):
            link.transport.write(garbage, time.monotonic() + 300)
            np.testing.assert_array_equal(session.infer(X), session.infer(X))


@pytest.mark.parametrize("name", ["host", "mps2-an386"])
def test_what_is_received_in_the_arena_destroys_no_parameter(opened: Opener, name: str) -> None:
    """Damaged, overlong and cut short: the sample's place is overwritten before anybody can know."""
    with opened(name) as session:
        before = session.get_params()
        number = session.link._number + 1
        write = struct.pack("<HHBBHII", number, 0, Command.WRITE_PARAM, 0, 0, 0, 48) + b"\x55" * 48
        for damaged in (cobs_encode(bytes(range(1, 256)) * 8), cobs_encode(write + b"bad!"), cobs_encode(write)[:40]):
            session.link.transport.write(b"\0" + damaged + b"\0", time.monotonic() + 300)
            for key, value in session.get_params().items():
                np.testing.assert_array_equal(value, before[key])
        assert session.train_step(X, TARGET).loss == expected(1)[0][0]


@pytest.mark.parametrize("name", ["host", "netduinoplus2"])
def test_firmware_that_stops_answering(opened: Opener, name: str) -> None:
    with opened(name) as session:
        session.link.timeout = 1.0                        # from now on: an emulator under load may take longer to start
        start = time.monotonic()
        with pytest.raises(DeviceError, match=r"did not answer infer within 1 s\.\nGive it longer with --timeout"):
            session.infer([HANG, 0, 0, 0])
        assert time.monotonic() - start >= 1


@pytest.mark.parametrize("name", [name for name in EMULATED if load_board(name).emulator == "qemu"])  # rp2040js takes no bus faults
def test_a_fault_is_reported(opened: Opener, name: str) -> None:
    with opened(name) as session, pytest.raises(DeviceError, match=rf"The firmware on board {name} .* stopped with a fault at pc 0x"):
        session.infer([FAULT, 0, 0, 0])


def test_a_program_that_dies_is_reported(opened: Opener) -> None:
    with opened("host") as session, pytest.raises(DeviceError, match=r"the host twin has ended by itself \(exit code -?\d+\)"):
        session.infer([FAULT, 0, 0, 0])


@pytest.mark.parametrize("name", ["netduinoplus2", "mps3-an547", "riscv-virt"])
def test_a_stack_overflow_is_noticed(opened: Opener, name: str) -> None:
    """By a bus fault below RAM, by the stack limit register, and by the guard that was overwritten."""
    with opened(name) as session, pytest.raises(DeviceError, match=r"fault at pc|stack has overflowed|ended by itself"):
        session.infer([DEEP, 0, 0, 0])


def test_a_wrong_array_never_leaves_the_host(opened: Opener) -> None:
    with opened("host") as session:
        with pytest.raises(DataError, match=r"A sample for fake has 4 values, found shape \(5,\)"):
            session.infer(np.zeros(5))
        with pytest.raises(DataError, match=r"A target for fake has 3 values, found shape \(\)"):
            session.train_step(X, 1)
        with pytest.raises(DataError, match=r"fake has no trained parameter 'other'; it has layer\.weight, learning_rate"):
            session.set_params({"other": np.zeros(3)})
        with pytest.raises(DataError, match=r"Parameter layer\.weight of fake has 12 elements, found 3"):
            session.set_params({"learning_rate": [1.0], "layer.weight": np.zeros(3)})
        assert session.get_params()["learning_rate"] == np.float32(0.25)


def test_the_device_refuses_what_it_cannot_do(opened: Opener) -> None:
    with opened("host") as session:
        link = session.link
        with pytest.raises(DeviceError, match="refused infer: the sample has the wrong length"):
            link.call(Command.INFER, bytes(12))
        with pytest.raises(DeviceError, match="refused read_param: an index or offset is out of range"):
            link.call(Command.READ_PARAM, struct.pack("<I", 48), index=0, offset=4)
        with pytest.raises(DeviceError, match="refused write_param: an index or offset is out of range"):
            link.call(Command.WRITE_PARAM, bytes(8), index=1)
        with pytest.raises(DeviceError, match="refused param_info: an index or offset is out of range"):
            link.call(Command.PARAM_INFO, index=2)
        with pytest.raises(DeviceError, match="refused infer: the sample has the wrong length"):
            link.call(Command.INFER, bytes(4000))             # longer than the device can hold


@pytest.mark.parametrize("name", ["host", "riscv-virt"])
def test_schemes_and_skipped_samples(opened: Opener, name: str) -> None:
    """Scheme 1 of the fake model leaves the first row of its weight alone; reset goes back to scheme 0 and to no threshold."""
    losses, weights = expected(1)
    with opened(name) as session:
        assert session.info.schemes == 2
        before = session.get_params()["layer.weight"]
        session.set_skip_below(losses[0] * 1.001)
        assert (session.train_step(X, TARGET).loss, session.counters().skipped) == (losses[0], 1)
        np.testing.assert_array_equal(session.get_params()["layer.weight"], before)
        session.set_skip_below(0.0)
        session.set_scheme(1)
        session.train_step(X, TARGET)
        np.testing.assert_array_equal(session.get_params()["layer.weight"], [*before[:4], *weights[4:]])
        session.set_skip_below(1e9)
        session.reset()
        session.train_step(X, TARGET)
        np.testing.assert_array_equal(session.get_params()["layer.weight"], weights)
        assert session.counters().skipped == 0
        with pytest.raises(DataError, match=r"fake has schemes 0 to 1, found -1\.\nCompile it with one --scheme for each\."):
            session.set_scheme(-1)
        with pytest.raises(DeviceError, match="refused set_scheme: an index or offset is out of range"):
            session.link.call(Command.SET_SCHEME, struct.pack("<I", 2))
        for command in (Command.SET_SCHEME, Command.SET_SKIP_BELOW):
            with pytest.raises(DeviceError, match=f"refused {command.name.lower()}: the sample has the wrong length"):
                session.link.call(command, bytes(3))


def test_crc_is_the_usual_one() -> None:
    frame = cobs_decode(pack_frame(b"123456789")[1:-1])
    assert frame is not None
    assert frame[-4:] == (0xCBF43926).to_bytes(4, "little") == zlib.crc32(b"123456789").to_bytes(4, "little")


def test_closing_ends_the_process_and_only_once(opened: Opener) -> None:
    session = opened("host")
    transport = session.link.transport
    assert isinstance(transport, ProcessTransport)
    pid = transport._process.pid
    session.close()
    session.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    with pytest.raises(DeviceError, match="The connection to the host twin is closed already"):
        session.infer(X)


def test_firmware_of_another_board(firmware: Callable[[str], Path]) -> None:
    with pytest.raises(DeviceError, match=r"The firmware on the host twin was built for board host, expected riscv-virt\."):
        Session(start_twin(firmware("host") / "build" / "fake.elf"), load_board("riscv-virt"))


@pytest.mark.skipif(not shutil.which("setpriv"), reason="needs setpriv")
def test_an_emulator_does_not_outlive_a_killed_python(firmware: Callable[[str], Path]) -> None:
    """The emulator would spin for ever: nothing tells its firmware that nobody is listening."""
    program = (
        "import sys, time; from pathlib import Path; from tinytrain.target.board import load_board\n"
        "from tinytrain.device.session import open_session\n"
        "session = open_session(Path(sys.argv[1]), load_board('netduinoplus2'))\n"
        "print(session.link.transport._process.pid, flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(firmware("netduinoplus2"))], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        group = int(parent.stdout.readline())
        os.killpg(group, 0)
        parent.kill()
    end = time.monotonic() + 300
    while time.monotonic() < end:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    os.killpg(group, signal.SIGKILL)
    pytest.fail("the emulator went on")


def test_what_does_not_speak_the_protocol() -> None:
    with pytest.raises(DeviceError, match=r"cat did not answer hello within 0\.6 s"):
        Session(ProcessTransport("cat", ["sh", "-c", "while read -r line; do echo nonsense; done"]), load_board("host"), timeout=0.6)
    with pytest.raises(DeviceError, match=r"cat has ended by itself \(exit code 3\)\. It said: no such thing"):
        Session(ProcessTransport("cat", ["sh", "-c", "echo no such thing >&2; exit 3"]), load_board("host"), timeout=300)
    with pytest.raises(ToolError, match="/nowhere/not-a-program is not an executable program"):
        Link(ProcessTransport("nothing", ["/nowhere/not-a-program"]))


def test_a_project_that_was_not_built(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match=r"is not built: there is no firmware in .*\nRun `make`"):
        open_session(tmp_path, load_board("host"))
