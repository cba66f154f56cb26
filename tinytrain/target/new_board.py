# SPDX-License-Identifier: Apache-2.0
"""A commented board.toml to start from: what the chip knows already is left out, what only the board knows is there to be corrected."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tinytrain.errors import BoardError
from tinytrain.target.board import Memory, board_folders, board_names, find_data, load_board
from tinytrain.target.table import read_toml

_TEXT = """# A board of {soc}, as {like} until you correct it. `tinytrain compile --board PATH` takes this file; wrong keys are named.
title = "{name}"
core = "{core}"                     # a file of boards/core: estimates of cycles
soc = "{soc}"
isa = [{isa}]                       # what kernels may use, by `tinytrain ops`
flags = [{flags}]
{clock}{uart}real = true

[memory]                            # of the chip, from its data sheet; further regions may hold the arena
{memory}

# [flash]                           # for flash tools
# pyocd = "..."
# openocd = ["interface/...", "target/..."]
"""


def new_board(name: str, soc: str) -> str:
    """The text. Raises BoardError where nobody has a board of that chip."""
    folders = board_folders()
    files = {known: find_data(f"{known}/board.toml", folders) for known in board_names(folders)}
    alike = {known: data for known, path in files.items() if path and (data := read_toml(path)).get("soc") == soc}
    if not alike:
        chips = sorted({str(found) for path in files.values() if path and (found := read_toml(path).get("soc"))})
        raise BoardError(f"There is no chip {soc!r}; known ones are {', '.join(chips)}.", hint="docs/boards.md says how one is added.")
    like, data = next(iter(alike.items()))
    board = load_board(like)
    clock = "\n" if "clock" in data else ""
    return _TEXT.format(
        name=name, soc=soc, like=like, core=board.core, isa=_list(board.isa), flags=_list(board.flags),
        clock=f"clock = {_inline(data['clock'])}  # out of it, the chip runs as after reset{clock}" if clock else "",
        uart=f"uart = {_inline(data['uart'])}  # another unit or pin: the message names those that there are\n" if "uart" in data else "",
        memory="\n".join(_memory(memory) for memory in board.memories),
    )


def write_new_board(name: str, soc: str, folder: Path) -> Path:
    """`folder`/`name`/board.toml. Raises BoardError where it is there already."""
    path = folder / name / "board.toml"
    text = new_board(name, soc)
    if path.exists():
        raise BoardError(f"{path} is there already.", hint="Choose another name, or correct that one.")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def _memory(memory: Memory) -> str:
    told = [f"origin = 0x{memory.origin:08X}", f"bytes = {memory.bytes:_}"]
    told += [] if memory.data_origin is None else [f"data_origin = 0x{memory.data_origin:08X}"]
    told += [f'kind = "{memory.kind}"'] if memory.kind == "flash" and memory.name != "flash" else []
    told += [] if memory.dma else ["dma = false"]
    return f"{memory.name} = {{ {', '.join(told)} }}"


def _list(texts: tuple[str, ...]) -> str:
    return ", ".join(f'"{text}"' for text in texts)


def _inline(values: dict[str, Any]) -> str:
    pairs = (f'{key} = "{value}"' if isinstance(value, str) else f"{key} = {value:_}" for key, value in values.items())
    return f"{{ {', '.join(pairs)} }}"
