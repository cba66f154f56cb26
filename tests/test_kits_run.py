# SPDX-License-Identifier: Apache-2.0
"""Firmware of kits that QEMU does not know, in Unicorn, with registers as we read them in manuals (`kit_chips.py`).

It starts the clocks that its board asks for, trains with the bits of its twin, and finds in its flash what it has saved. What we misread
stays unfound."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from fake_firmware import build_fake, need_tools, write_fake
from kit_chips import CHIPS

from tinytrain import zoo
from tinytrain.compiler import Options, compile_model, write
from tinytrain.device import store
from tinytrain.device.process import ProcessTransport
from tinytrain.device.project import Project
from tinytrain.device.session import Session, open_session
from tinytrain.errors import DeviceError
from tinytrain.gradient.update import Optimiser
from tinytrain.ir.types import Array
from tinytrain.target.board import Board, board_names, load_board
from tinytrain.target.build import build
from tinytrain.target.table import read_toml

KITS = [name for name in board_names() if read_toml(load_board(name).file).get("soc") in CHIPS and name != "netduinoplus2"]
LABEL = np.dtype(np.int32)
X, TARGET = np.array([0.15, -0.025, 0, 0.3], np.float32), np.array([0.5, 1, 0], np.float32)

pytestmark = pytest.mark.skipif(importlib.util.find_spec("unicorn") is None, reason="needs unicorn")


def started(board: Board, elf: Path, *kept: Path, target: np.dtype[np.int32] | None = None) -> Session:
    command = [sys.executable, str(Path(__file__).with_name("kit_emulator.py")), str(board.file), str(elf), *map(str, kept)]
    transport = ProcessTransport(f"{board.name} (Unicorn)", command)
    return Session(transport, board, target_dtype=target) if target else Session(transport, board)


def assert_same(one: dict[str, Array], other: dict[str, Array]) -> None:
    for key, array in one.items():
        np.testing.assert_array_equal(array, other[key])


def losses(session: Session) -> list[float]:
    return [session.train_step(X, TARGET).loss for _ in range(3)]


@pytest.mark.parametrize("name", KITS)
def test_a_kit_starts_and_trains(name: str, tmp_path: Path) -> None:
    board = load_board(name)
    need_tools(board)
    elf = build_fake(tmp_path / "kit", name) / "build" / "fake.elf"
    with started(board, elf) as session, open_session(build_fake(tmp_path / "twin", board.twin), load_board(board.twin)) as twin:
        assert session.counters().clock_hz == board.clock_hz
        assert losses(session) == losses(twin)
        assert_same(session.get_params(), twin.get_params())


@pytest.mark.parametrize(
    ("name", "file", "old", "new", "said"),
    [
        ("nucleo-f446re", "Makefile", "TT_FLASH_WAIT=5u", "TT_FLASH_WAIT=3u", "too few wait states"),
        ("stm32f746g-disco", "Makefile", "-DTT_OVER_DRIVE=1u", "", "over-drive is off"),
        ("esp32-c3", "app/chip_esp32c3.c", "tt_chip_set(SUPER_WATCHDOG, 0, BIT(31));", "", "a watchdog is on"),
    ],
)
def test_a_step_that_is_left_out_shows(name: str, file: str, old: str, new: str, said: str, tmp_path: Path) -> None:
    board = load_board(name)
    need_tools(board)
    path = write_fake(tmp_path, board) / file
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(DeviceError, match=said):
        started(board, build(tmp_path, board))


@pytest.mark.parametrize("name", [name for name in KITS if load_board(name).store])
def test_a_kit_finds_what_it_has_saved(name: str, tmp_path: Path) -> None:
    board = load_board(name)
    need_tools(board)
    onnx.save(zoo.model("mlp"), tmp_path / "mlp.onnx")
    options = Options(board=name, scheme="last:1", optimiser=Optimiser(0.05, momentum=0.9), store=2)
    write(compile_model(tmp_path / "mlp.onnx", options), tmp_path / "out")
    elf, flash = Project.open(tmp_path / "out").elf(), tmp_path / "flash.img"
    rng = np.random.default_rng(1)
    samples = [(rng.standard_normal(64, np.float32), np.int32(rng.integers(10))) for _ in range(5)]
    with started(board, elf, flash, target=LABEL) as session:
        with pytest.raises(DeviceError, match="has no weights of this model"):
            store.load(session)
        for sample in samples[:4]:
            session.train_step(*sample)
        saved = session.get_params()
        session.train_step(*samples[4])
        more = session.get_params()
    with started(board, elf, flash, target=LABEL) as session:
        assert_same(session.get_params(), saved)
        session.train_step(*samples[4])
        assert_same(session.get_params(), more)
