# SPDX-License-Identifier: Apache-2.0
"""`tinytrain flash`: gdb for real against an empty board in QEMU; of other tools the commands, and what is said where one fails."""

from __future__ import annotations

import os
import shutil
import socket
import struct
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_runs import save_data, save_model, sentence, succeed
from fake_firmware import need_tools
from tcp_port import board_on_a_port, port_of

from tinytrain.device.flashers import FLASHERS, choose
from tinytrain.device.flashers.gdb import Gdb
from tinytrain.device.flashers.tool import Firmware
from tinytrain.device.flashers.uf2 import Uf2
from tinytrain.device.project import Project
from tinytrain.errors import BoardError, DeviceError, ToolError
from tinytrain.target.board import Board, load_board
from tinytrain.target.image import flat, segments, uf2

UF2 = {"family": 0xE48BFF56, "board_id": "RPI-RP2"}


def kit(flash: Mapping[str, Any]) -> Board:
    return replace(load_board("netduinoplus2"), name="kit", machine=(), flash=dict(flash))


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    need_tools(load_board("netduinoplus2"))
    folder = tmp_path_factory.mktemp("flash")
    succeed("compile", save_model(folder), "--board", "netduinoplus2", "--loss", "ce", "-o", folder / "out")
    return folder / "out"


@pytest.fixture
def firmware(out: Path) -> Firmware:
    return Firmware(Project.open(out).elf(), load_board("netduinoplus2"))


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of programs that are found first."""
    folder = tmp_path / "shelf"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    return folder


def put(shelf: Path, program: str, answer: str, code: int = 0) -> None:
    (shelf / program).write_text(f"#!/bin/sh\nprintf '{answer}\\n'\nexit {code}\n")
    (shelf / program).chmod(0o755)


def wait_for(port: int) -> None:
    """Until somebody listens there."""
    end = time.monotonic() + 300
    while time.monotonic() < end:
        with socket.socket() as one:
            if one.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    pytest.fail(f"nobody listens on port {port}")


@pytest.mark.parametrize("name", ["mps2-an386", "netduinoplus2", "riscv-virt"])
def test_gdb_flashes_an_empty_board_which_then_trains(name: str, tmp_path: Path) -> None:
    """It says hello on its serial port; its bits are those of a firmware that the emulator has loaded itself."""
    board = load_board(name)
    need_tools(board)
    if Gdb().program() != "gdb-multiarch":
        pytest.skip("needs gdb-multiarch")
    pytest.importorskip("serial", reason="needs pyserial")
    out = tmp_path / "out"
    succeed("compile", save_model(tmp_path), "--board", name, "--loss", "ce", "-o", out)
    data = np.load(save_data(tmp_path / "train.npz", count=3))
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        gdb = one.getsockname()[1]
    with board_on_a_port(None, board, ("-S", "-gdb", f"tcp:127.0.0.1:{gdb}")) as port:
        wait_for(gdb)
        said = succeed("flash", out, "--via", f"gdb:127.0.0.1:{gdb}", "--port", port.url, "--timeout", 300)
        assert "command    gdb-multiarch" in said and "verified   read back by gdb: .text" in said
        assert f"answers    mlp on {name}, model " in said
        with Project.open(out, port=port.url).session() as flashed, Project.open(out).session() as loaded:
            for x, y in zip(data["x"], data["y"], strict=True):
                assert flashed.train_step(x, y).loss == loaded.train_step(x, y).loss
            for key, array in loaded.get_params().items():
                np.testing.assert_array_equal(flashed.get_params()[key], array)


def test_a_board_that_does_not_answer_after_flashing(out: Path, shelf: Path) -> None:
    """Its tool says that all is well."""
    pytest.importorskip("serial", reason="needs pyserial")
    put(shelf, "gdb-multiarch", "Start address 0x8000000, load size 16\nSection .text, range 0x8000000 -- 0x8000010: matched.")
    flash = ("flash", out, "--via", "gdb:localhost:3333", "--timeout", 0.5, "--port")
    ours, its = socket.socketpair()
    with its, port_of(ours) as port:
        told = sentence(*flash, port.url)
        assert told == (
            f"tinytrain: the board on {port.url} did not answer hello within 0.5 s. Board netduinoplus2 was flashed, and its firmware "
            "should have answered there.\nIs it the port of this board, and --baud its rate? Reset it, and try `tinytrain monitor`.\n"
        )
    assert "does not open" in (told := sentence(*flash, port.url)) and "Board netduinoplus2 was flashed" in told
    assert "dry run    nothing was run" in succeed(*flash, port.url, "--dry-run")


def test_a_board_that_holds_something_else_is_told(out: Path, shelf: Path) -> None:
    put(shelf, "gdb-multiarch", "Start address 0x8000000, load size 16\nSection .text, range 0x8000000 -- 0x8000010: MIS-MATCHED!")
    told = sentence("flash", out, "--via", "gdb:localhost:3333")
    assert "gdb did not find in board netduinoplus2 what was written: it is not mlp.elf." in told


@pytest.mark.parametrize("answer", ["", "Section .text, range 0x0 -- 0x8: matched.", "Start address 0x0, load size 8"])
def test_gdb_proves_nothing_unless_it_has_loaded_and_compared(answer: str, firmware: Firmware) -> None:
    with pytest.raises(DeviceError, match="did not find in board"):
        Gdb().verified(firmware, answer)


def test_a_tool_that_fails_is_quoted(out: Path, shelf: Path) -> None:
    put(shelf, "openocd", "Error: open failed", 1)
    told = sentence("flash", out, "--via", "openocd")
    assert "openocd could not flash board netduinoplus2 (exit code 1):\nError: open failed" in told
    put(shelf, "openocd", "** Verified OK **")
    assert "verified   read back by openocd" in succeed("flash", out, "--via", "openocd")


@pytest.mark.parametrize("first", ["localhost:3333: Connection timed out.", "lab.example:3333: cannot resolve name: not known"])
def test_gdb_without_a_server_says_no_more_than_that(first: str, out: Path, shelf: Path) -> None:
    put(shelf, "gdb-multiarch", f"{first}\nYou cannot do that now\nThe program is not being run.", 1)
    told = sentence("flash", out, "--via", "gdb:localhost:3333")
    assert f"board netduinoplus2 (exit code 1):\n{first}\nIs the board connected" in told


def test_a_missing_tool_is_named_with_how_to_get_it(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tinytrain.device.flashers.tool.Flasher.program", lambda flasher: None)
    told = sentence("flash", out)
    assert "None of the tools that flash board netduinoplus2 is installed." in told
    assert "Get pyocd: pip install 'tinytrain[flash]'; or openocd: apt-get install openocd." in told
    assert "gdb-multiarch is not installed.\nGet it: apt-get install gdb-multiarch." in sentence("flash", out, "--via", "gdb:localhost:1")
    said = succeed("flash", out, "--dry-run")
    assert succeed("flash", out, "--dry-run", "--quiet") == said           # it is what was asked for
    assert "command    pyocd flash --no-wait --target stm32f405rg" in said
    assert "dry run    nothing was run; pyocd is not installed" in said
    assert not (out / "build" / "mlp.bin").exists()


def test_what_is_asked_for_and_is_not_there() -> None:
    with pytest.raises(ToolError, match="There is no flash tool 'dfu'; known ones are pyocd, openocd, esptool, picotool, uf2, gdb"):
        choose(load_board("netduinoplus2"), "dfu")
    with pytest.raises(ToolError, match="Board host is this computer, which has nothing to flash"):
        choose(load_board("host"), None)
    with pytest.raises(ToolError, match=r"Board mps2-an386 names no flash tool in its file\.\nIts emulator loads the firmware itself"):
        choose(load_board("mps2-an386"), None)


@pytest.mark.parametrize("where", ["", "3333", "| touch /tmp/x", "host:port", "localhost:3333; quit"])
def test_gdb_takes_an_address_alone(where: str, firmware: Firmware) -> None:
    with pytest.raises(ToolError, match="expected gdb:HOST:PORT"):
        Gdb().prepare(firmware, where)


def test_each_tool_has_its_commands(firmware: Firmware) -> None:
    flash = {"pyocd": "nrf52840", "openocd": ["a.cfg", "b.cfg"], "esptool": {"chip": "esp32c3", "address": 0}, "picotool": True}
    board = kit(flash)
    elf = str(firmware.elf)
    found = {one.name: one.prepare(Firmware(firmware.elf, board), "")[1] for one in FLASHERS if one.fits(board)}
    assert [*found] == ["pyocd", "openocd", "esptool", "picotool"]
    assert found["pyocd"][0] == ["pyocd", "flash", "--no-wait", "--target", "nrf52840", elf]
    assert found["pyocd"][1][-3].startswith('compare 0x08000000 "')
    assert found["openocd"] == (["openocd", "-f", "a.cfg", "-f", "b.cfg", "-c", f"program {{{elf}}} verify reset exit"],)
    assert found["esptool"][0][1:] == ["--chip", "esp32c3", "write-flash", "0x0", str(firmware.elf.with_suffix(".bin"))]
    assert found["picotool"] == (["picotool", "load", "-v", "-x", elf, "-t", "elf"],)


@pytest.mark.parametrize(
    ("flash", "message"),
    [
        ({"pyocd": 3}, "pyocd in .flash. is 3; expected a target of pyOCD"),
        ({"openocd": "x.cfg"}, "openocd in .flash. is 'x.cfg'; expected a list"),
        ({"esptool": {"chip": "esp32c3"}}, "address in .flash. is missing"),
        ({"uf2": {"family": "0xE48BFF56", "board_id": "RPI-RP2"}}, "family in .flash. is '0xE48BFF56'; expected a family ID"),
    ],
)
def test_a_wrong_entry_of_the_board_is_named(flash: dict[str, Any], message: str, firmware: Firmware) -> None:
    board = kit(flash)
    flasher = next(one for one in FLASHERS if one.fits(board))
    with pytest.raises(BoardError, match=message):
        flasher.prepare(Firmware(firmware.elf, board), "")


def test_uf2_blocks_hold_the_firmware() -> None:
    parts = [(0x10000000, bytes(range(256)) * 2), (0x10000350, b"\x01\x02\x03")]
    file = uf2(parts, UF2["family"])
    assert len(file) == 3 * 512
    memory = bytearray(b"\xff" * 0x400)
    for number in range(3):
        block = file[number * 512 :][:512]
        start, second, flags, address, size, this, all_, family = struct.unpack_from("<8I", block)
        assert (start, second, flags, size, this, all_, family) == (0x0A324655, 0x9E5D5157, 0x2000, 256, number, 3, 0xE48BFF56)
        assert address % 256 == 0 and block[-4:] == struct.pack("<I", 0x0AB16F30) and not any(block[32 + 256 : -4])
        memory[address - 0x10000000 : address - 0x10000000 + 256] = block[32 : 32 + 256]
    start, image = flat(parts)
    assert start == 0x10000000 and bytes(memory[: len(image)]) == image


def test_an_image_holds_what_is_loaded(firmware: Firmware) -> None:
    start, image = flat(segments(firmware.elf))
    assert start == 0x08000000
    assert int.from_bytes(image[4:8], "little") & ~1 in range(start, start + len(image))       # the reset vector
    with pytest.raises(ToolError, match="is no ELF file"):
        segments(firmware.elf.with_suffix(".elf.seal"))


def test_uf2_goes_to_the_drive_of_that_board_alone(firmware: Firmware, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    board = kit({"uf2": UF2})
    monkeypatch.setattr("tinytrain.device.flashers.uf2.MOUNTS", (tmp_path,))
    with pytest.raises(DeviceError, match=r"found 0: no drive with INFO_UF2\.TXT is mounted"):
        Uf2().prepare(Firmware(firmware.elf, board), "")
    for name, text in (("me/RP2350", "UF2 Bootloader v1.0\nModel: Raspberry Pi RP2350\nBoard-ID: RP2350\n"),
                       ("RPI-RP2", "UF2 Bootloader v3.0\r\nModel: Raspberry Pi RP2\r\nBoard-ID: RPI-RP2\r\n")):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "INFO_UF2.TXT").write_text(text)
    files, commands = Uf2().prepare(Firmware(firmware.elf, board), "")
    file = firmware.elf.with_suffix(".uf2")
    assert commands[0] == ["cp", str(file), f"{tmp_path / 'RPI-RP2'}/"] and [*files] == [file]
    with pytest.raises(DeviceError, match=r"has no INFO_UF2\.TXT with a Board-ID"):
        Uf2().prepare(Firmware(firmware.elf, board), str(tmp_path))


def test_a_firmware_of_another_family_is_not_copied(out: Path, firmware: Firmware, tmp_path: Path) -> None:
    """Neither where the drive is another chip's, nor where the board's file has a family that its own boot loader skips."""
    (tmp_path / "INFO_UF2.TXT").write_text("UF2 Bootloader v1.0\nModel: Raspberry Pi RP2350\nBoard-ID: RP2350\n")
    with pytest.raises(DeviceError, match="has Board-ID RP2350; expected one that begins with RPI-RP2"):
        Uf2().prepare(Firmware(firmware.elf, kit({"uf2": UF2})), str(tmp_path))
    board = kit({"uf2": {**UF2, "board_id": "RP2350"}})
    with pytest.raises(BoardError, match=r"family in .flash. is 0xe48bff56, which the boot loader RP2350 skips; expected 0xe48bff59 or"):
        Uf2().prepare(Firmware(firmware.elf, board), str(tmp_path))
    assert "uf2 in [flash] is missing; expected a table with family and board_id" in sentence("flash", out, "--via", f"uf2:{tmp_path}")
    assert [*tmp_path.iterdir()] == [tmp_path / "INFO_UF2.TXT"]


def test_every_tool_that_doctor_knows_for_flashing_is_one_of_ours() -> None:
    from tinytrain.target.doctor import PACKAGES, TOOLS

    named = {tool.name for tool in (*TOOLS, *PACKAGES) if "flashing" in tool.needed_for}
    assert named <= {program for flasher in FLASHERS for program in flasher.programs}
    assert shutil.which("cp") is None or Uf2().program() == "cp"
