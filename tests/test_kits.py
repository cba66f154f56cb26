# SPDX-License-Identifier: Apache-2.0
"""Boards of one's own, by path or from a folder, and the images that real kits start from."""

from __future__ import annotations

import importlib.util
import struct
from pathlib import Path

import onnx
import pytest
from fake_firmware import STACK_BYTES, build_fake, need_tools

from tinytrain import zoo
from tinytrain.compiler import Options, compile_model, write
from tinytrain.device.flashers.uf2 import uf2_of
from tinytrain.device.project import Project
from tinytrain.errors import BoardError
from tinytrain.paths import data_dir
from tinytrain.target.board import board_names, load_board
from tinytrain.target.new_board import write_new_board


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


def test_image_of_an_rp2350_has_the_block_that_its_rom_looks_for(tmp_path: Path) -> None:
    board = load_board("raspberry-pi-pico2")
    image = uf2_of(build_fake(tmp_path, board.name) / "build" / "fake.elf", board)
    first = image[32:288]
    assert struct.unpack_from("<I", first)[0] == 0x2000_0000 + STACK_BYTES
    block = first.index(struct.pack("<I", 0xFFFFDED3))
    assert struct.unpack_from("<5I", first, block) == (0xFFFFDED3, 0x10210142, 0x1FF, 0, 0xAB123579)
    assert struct.unpack_from("<I", image, 28)[0] == 0xE48BFF59


@pytest.mark.parametrize("soc", sorted({path.parent.name for path in data_dir("boards").glob("soc/*/soc.toml")}))
def test_a_new_board_is_valid(soc: str, tmp_path: Path) -> None:
    path = write_new_board("mine", soc, tmp_path)
    board = load_board(str(path))
    assert board.name == "mine" and not board.machine
    assert board.memories and board.clock_hz
    with pytest.raises(BoardError, match=r"board\.toml is there already"):
        write_new_board("mine", soc, tmp_path)


def test_a_new_board_of_an_unknown_chip(tmp_path: Path) -> None:
    with pytest.raises(BoardError, match="There is no chip 'z80'; known ones are esp32c3, fe310, lm3s, "):
        write_new_board("mine", "z80", tmp_path)
