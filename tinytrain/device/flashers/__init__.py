# SPDX-License-Identifier: Apache-2.0
"""Flash tools, in the order in which they are tried. A new one is a module of this folder and its line here."""

from __future__ import annotations

from tinytrain.device.flashers.esptool import EspTool
from tinytrain.device.flashers.gdb import Gdb
from tinytrain.device.flashers.openocd import OpenOcd
from tinytrain.device.flashers.picotool import PicoTool
from tinytrain.device.flashers.pyocd import PyOcd
from tinytrain.device.flashers.tool import Flasher
from tinytrain.device.flashers.uf2 import Uf2
from tinytrain.errors import ToolError
from tinytrain.target.board import Board

FLASHERS: tuple[Flasher, ...] = (PyOcd(), OpenOcd(), EspTool(), PicoTool(), Uf2(), Gdb())


def choose(board: Board, via: str | None, *, installed: bool = True) -> tuple[Flasher, str]:
    """The tool, and where it finds the board: of `via` (NAME or NAME:WHERE), or the first that fits the board and is installed.

    Without `installed` the first that fits will do. Raises ToolError where there is none.
    """
    if board.is_host:
        raise ToolError(f"Board {board.name} is this computer, which has nothing to flash.", hint="`tinytrain train` starts the firmware.")
    if via is not None:
        name, _, where = via.partition(":")
        flasher = next((one for one in FLASHERS if one.name == name), None)
        if flasher is None:
            raise ToolError(f"There is no flash tool {name!r}; known ones are {', '.join(one.name for one in FLASHERS)}.", hint=_GDB)
        if installed and flasher.program() is None:
            raise ToolError(f"{flasher.programs[0]} is not installed.", hint=f"Get it: {flasher.get}.")
        return flasher, where
    fitting = [flasher for flasher in FLASHERS if flasher.fits(board)]
    if not fitting:
        real = f"Its emulator loads the firmware itself: `tinytrain train`. {_GDB}" if board.machine else _GDB
        raise ToolError(f"Board {board.name} names no flash tool in its file.", hint=real)
    found = next((flasher for flasher in fitting if flasher.program()), None)
    if found is None and installed:
        ways = "; or ".join(f"{flasher.programs[0]}: {flasher.get}" for flasher in fitting)
        raise ToolError(f"None of the tools that flash board {board.name} is installed.", hint=f"Get {ways}.")
    return found or fitting[0], ""


_GDB = "Any board can be flashed by a GDB server: --via gdb:HOST:PORT."
