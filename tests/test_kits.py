# SPDX-License-Identifier: Apache-2.0
"""Boards of one's own, by path or from a folder, and the images that real kits start from."""

from __future__ import annotations

import importlib.util
import re
import struct
from pathlib import Path

import numpy as np
import onnx
import pytest
from fake_firmware import STACK_BYTES, build_fake, need_tools, write_fake

from tinytrain import zoo
from tinytrain.compiler import Options, compile_model, write
from tinytrain.device.flashers.uf2 import uf2_of
from tinytrain.device.project import Project
from tinytrain.device.qemu import start_qemu
from tinytrain.device.session import Session, open_session
from tinytrain.errors import BoardError
from tinytrain.paths import data_dir
from tinytrain.target.board import board_names, load_board
from tinytrain.target.build import build
from tinytrain.target.image import flat, segments
from tinytrain.target.new_board import write_new_board
from tinytrain.target.table import read_toml


def own_board(folder: Path, file: str, **edits: str) -> Path:
    """An edited netduinoplus2 outside of boards/."""
    text = (data_dir("boards") / "netduinoplus2" / "board.toml").read_text(encoding="utf-8")
    for old, new in edits.items():
        assert old in text
        text = text.replace(old, new)
    path = folder / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_a_board_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the path of its file or folder, and by name from TINYTRAIN_BOARDS or the user's folder."""
    own_board(tmp_path, "my-board.toml", Netduino="Mine")
    own_board(tmp_path / "named", "shelf/board.toml", Netduino="Mine")
    monkeypatch.chdir(tmp_path)
    assert load_board("./my-board.toml").name == load_board("my-board.toml").name == "my-board"
    assert load_board("named/shelf").name == load_board("named/shelf/board.toml").name == "shelf"
    with pytest.raises(BoardError, match="There is no board 'shelf'"):
        load_board("shelf")
    monkeypatch.setenv("TINYTRAIN_BOARDS", str(tmp_path / "named"))
    assert load_board("shelf").title.startswith("Mine")
    assert not load_board("shelf").is_ours and load_board("host").is_ours
    assert "shelf" in board_names()
    monkeypatch.delenv("TINYTRAIN_BOARDS")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    own_board(tmp_path / "config" / "tinytrain" / "boards", "drawer/board.toml")
    assert load_board("drawer").name == "drawer"
    own_board(tmp_path, "one board.toml")
    with pytest.raises(BoardError, match="a board cannot be called 'one board'"):
        load_board("./one board.toml")


def test_a_board_of_ones_own_has_c_of_its_own(tmp_path: Path) -> None:
    """Compiled by its path, opened again by the path that the manifest has; a source beside the board's file is a part of the firmware."""
    sources = 'sources = ["tt_start.c", "tt_memory.c", "port_cortex_m.c", "chip_stm32f4.c", "uart_stm32.c", "board.c"]\nreal = true'
    path = own_board(tmp_path, "mine/board.toml", **{"real = true": sources})
    (path.parent / "board.c").write_text("#include <stdint.h>\nextern const uint32_t mine;\nconst uint32_t mine = 7;\n", encoding="utf-8")
    need_tools(load_board(str(path.parent)))
    onnx.save(zoo.model("mlp"), tmp_path / "mlp.onnx")
    write(compile_model(tmp_path / "mlp.onnx", Options(board=str(path.parent))), tmp_path / "out")
    project = Project.open(tmp_path / "out")
    assert project.board.file == path and project.manifest.board == "mine"
    assert project.elf().is_file()
    assert any("board.c" in name for name in project.manifest.files)


def test_boot_stage_2_is_its_source_and_has_the_crc_that_the_rom_wants(tmp_path: Path) -> None:
    """And stands first in the UF2, with the vectors behind it."""
    board = load_board("raspberry-pi-pico")
    need_tools(board)
    spec = importlib.util.spec_from_file_location("boot2", data_dir("boards").parent / "scripts" / "boot2.py")
    assert spec is not None and spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert script.crc32_of_rom(b"123456789") == 0x0376E6E7                  # CRC-32/MPEG-2
    assert (board.places[1] / "boot2.c").read_text(encoding="utf-8") == script.text()
    elf = build_fake(tmp_path, board.name) / "build" / "fake.elf"
    image = uf2_of(elf, board)
    blocks = [image[at : at + 512] for at in range(0, len(image), 512)]
    heads = [struct.unpack_from("<8I", block) for block in blocks]
    assert [head[3] for head in heads] == [0x1000_0000 + 256 * i for i in range(len(blocks))]
    assert {head[:3] + head[6:] for head in heads} == {(0x0A324655, 0x9E5D5157, 0x2000, len(blocks), 0xE48BFF56)}
    assert blocks[0][32:288] == script.boot2()
    assert struct.unpack_from("<I", blocks[1], 32)[0] == 0x2000_0000 + STACK_BYTES
    with pytest.raises(BoardError, match=r"Board netduinoplus2: uf2 in .flash. is missing"):
        uf2_of(elf, load_board("netduinoplus2"))


@pytest.mark.parametrize(
    ("name", "image_type", "family"),
    [("raspberry-pi-pico2", 0x10210142, 0xE48BFF59), ("raspberry-pi-pico2-riscv", 0x11010142, 0xE48BFF5A)],
)
def test_image_of_an_rp2350_has_the_block_that_its_rom_looks_for(name: str, image_type: int, family: int, tmp_path: Path) -> None:
    """Behind the vectors of an Arm core, or the first instructions of a RISC-V core."""
    board = load_board(name)
    image = uf2_of(build_fake(tmp_path, name) / "build" / "fake.elf", board)
    first = image[32:288]
    assert board.core == "rv32imac" or struct.unpack_from("<I", first)[0] == 0x2000_0000 + STACK_BYTES
    block = first.index(struct.pack("<I", 0xFFFFDED3))
    assert block % 4 == 0
    assert struct.unpack_from("<5I", first, block) == (0xFFFFDED3, image_type, 0x1FF, 0, 0xAB123579)
    assert struct.unpack_from("<I", image, 28)[0] == family


def test_image_of_an_esp32_c3_is_what_its_rom_starts_directly(tmp_path: Path) -> None:
    """Two magic words, then the first instruction; constants at the same offset of both views of the flash."""
    board = load_board("esp32-c3")
    elf = build_fake(tmp_path, board.name) / "build" / "fake.elf"
    start, image = flat(segments(elf))
    assert start == 0x4200_0000 and image[:8] == bytes.fromhex("1d04dbae1d04dbae")
    from elftools.elf.elffile import ELFFile

    with elf.open("rb") as stream:
        file = ELFFile(stream)
        symbols = {symbol.name: symbol["st_value"] for symbol in file.get_section_by_name(".symtab").iter_symbols()}
        constants = file.get_section_by_name(".rodata")
        at = constants["sh_addr"] - 0x3C00_0000
        assert image[at : at + constants["sh_size"]] == constants.data()
    assert symbols["tt_entry"] == 0x4200_0008
    assert symbols["tt_data_load"] - 0x3C00_0000 + symbols["tt_data_end"] - symbols["tt_data_start"] == len(image)
    assert symbols["tt_fatal_trap"] % 256 == 0


def losses(session: Session) -> list[float]:
    x, target = np.array([0.15, -0.025, 0, 0.3], np.float32), np.array([0.5, 1, 0], np.float32)
    return [session.train_step(x, target).loss for _ in range(3)]


@pytest.mark.parametrize("toolchain", ["riscv-clang", "riscv-gcc"])
def test_constants_at_another_address_than_code(toolchain: str, tmp_path: Path) -> None:
    """As on an ESP32-C3: the same flash is fetched from at one address and loaded from at another. Here it is there twice."""
    text = (data_dir("boards") / "riscv-virt" / "board.toml").read_text(encoding="utf-8")
    own = tmp_path / "apart.toml"
    own.write_text(text.replace("[emulator]", f"""toolchain = "{toolchain}"
[memory]
flash = {{ data_origin = 0x8100_0000 }}
psram = {{ bytes = 1_048_576 }}
[emulator]"""), encoding="utf-8")
    board, plain = load_board(str(own)), load_board("riscv-virt")
    need_tools(board)
    elf = build(write_fake(tmp_path / "apart", board), board)
    again = tmp_path / "again.bin"
    again.write_bytes(flat(segments(elf))[1])
    with Session(start_qemu(elf, board, more=("-device", f"loader,file={again},addr=0x81000000")), board) as session:
        found = losses(session)
    with open_session(build_fake(tmp_path / "plain", plain.name), plain) as session:
        assert losses(session) == found


def test_caches_of_a_cortex_m7_are_started(tmp_path: Path) -> None:
    """The emulator has none: what is told to them is taken, and the memory protection unit forbids nothing that is used."""
    board = (data_dir("boards") / "mps2-an500" / "board.toml").read_text(encoding="utf-8")
    sources = 'sources = ["tt_start.c", "tt_memory.c", "port_cortex_m.c", "chip_cached.c", "uart_cmsdk.c"]'
    (tmp_path / "cached").mkdir()
    (tmp_path / "cached" / "board.toml").write_text(board.replace('soc = "mps2"', f'soc = "mps2"\n{sources}'), encoding="utf-8")
    (tmp_path / "cached" / "chip_cached.c").write_text("""#include "cache_m7.h"
#include "chip.h"

tt_clocks tt_chip_start(void)
{
    tt_cache_start();
    tt_cache_data_off(&CACHE_DCCISW);
    tt_cache_resume(1);
    tt_cache_resume(tt_cache_suspend());
    return (tt_clocks){TT_CLOCK_HZ, TT_UART_CLOCK_HZ};
}
""", encoding="utf-8")
    cached, plain = load_board(str(tmp_path / "cached")), load_board("mps2-an500")
    need_tools(cached)
    build(write_fake(tmp_path / "one", cached), cached)
    with open_session(tmp_path / "one", cached) as one, open_session(build_fake(tmp_path / "two", plain.name), plain) as two:
        assert losses(one) == losses(two)


@pytest.mark.parametrize(
    ("name", "sysclk_hz", "wait", "dividers"),
    [
        ("nucleo-h743zi", 400_000_000, 2, {"AHB": 2, "APB1": 4, "APB2": 4}),
        ("nucleo-h743zi", 180_000_000, 2, {"AHB": 1, "APB1": 2, "APB2": 2}),
        ("nucleo-h743zi", 100_000_000, 1, {"AHB": 1, "APB1": 1, "APB2": 1}),
        ("stm32f746g-disco", 216_000_000, 7, {"APB1": 4, "APB2": 2}), ("nucleo-f446re", 168_000_000, 5, {"APB1": 4, "APB2": 2}),
    ],
)
def test_wait_states_and_buses(name: str, sysclk_hz: int, wait: int, dividers: dict[str, int], tmp_path: Path) -> None:
    """By table 17 of RM0433, 5 of RM0385 and 10 of RM0090, and the most that each bus takes."""
    text = (data_dir("boards") / name / "board.toml").read_text(encoding="utf-8")
    (tmp_path / "own.toml").write_text(re.sub("sysclk_hz = [0-9_]+", f"sysclk_hz = {sysclk_hz}", text), encoding="utf-8")
    board = load_board(str(tmp_path / "own.toml"))
    need_tools(board)
    assert board.defines["TT_FLASH_WAIT"] == wait and board.clock_hz == sysclk_hz
    assert {bus: board.defines[f"TT_{bus}_DIV"] for bus in dividers} == dividers
    build(write_fake(tmp_path, board), board)


@pytest.mark.parametrize("soc", sorted({path.parent.name for path in data_dir("boards").glob("soc/*/soc.toml")}))
def test_a_new_board_is_valid(soc: str, tmp_path: Path) -> None:
    path = write_new_board("mine", soc, tmp_path)
    board = load_board(str(path))
    assert board.name == "mine" and not board.machine
    like = next(one for one in map(load_board, board_names()) if read_toml(one.file).get("soc") == soc)
    assert board.memories == like.memories and board.clock_hz
    with pytest.raises(BoardError, match=r"board\.toml is there already"):
        write_new_board("mine", soc, tmp_path)


def test_a_new_board_of_an_unknown_chip(tmp_path: Path) -> None:
    with pytest.raises(BoardError, match="There is no chip 'z80'; known ones are esp32c3, fe310, lm3s, "):
        write_new_board("mine", "z80", tmp_path)
