# SPDX-License-Identifier: Apache-2.0
"""UF2: boot loaders that show themselves as a USB drive. [flash] uf2 = { family = 0xE48B_FF56, board_id = "RPI-RP2" }.

The drive's INFO_UF2.TXT has a line `Board-ID: …`; what starts otherwise than the board's `board_id` is another chip's drive.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tinytrain.device.flashers.tool import Commands, Firmware, Flasher, entry
from tinytrain.errors import BoardError, DeviceError
from tinytrain.reading import read_limited
from tinytrain.target.board import Board
from tinytrain.target.image import segments, uf2

INFO = "INFO_UF2.TXT"
# Family IDs that the boot ROMs take, by the Board-ID of their drives; blocks of any other are skipped in silence (RP2040 datasheet,
# 2.8.4.2; RP2350 datasheet, 5.5.3: Arm secure, RISC-V, Arm non-secure, absolute).
TAKEN = {"RPI-RP2": (0xE48BFF56,), "RP2350": (0xE48BFF59, 0xE48BFF5A, 0xE48BFF5B, 0xE48BFF57)}
MOUNTS = (Path("/media"), Path("/run/media"), Path("/Volumes"))
_DEPTH = 2                                                # drives lie in a folder of their user there, or in none
_MOST_INFO_BYTES = 1 << 12


class Uf2(Flasher):
    name = "uf2"
    programs = ("cp",)
    get = "cp comes with the system"
    where = "the folder in which the drive is mounted, where it should not look for it"

    def prepare(self, firmware: Firmware, where: str) -> tuple[dict[Path, bytes], Commands]:
        file, image = firmware.elf.with_suffix(".uf2"), uf2_of(firmware.elf, firmware.board)
        wanted = entry(_table(firmware.board), "board_id", str, "how the drive's Board-ID begins", firmware.board)
        _check_family(firmware.board, wanted)
        drive = _checked(Path(where), wanted) if where else _found(wanted)
        return {file: image}, (["cp", str(file), f"{drive}/"], ["sync"])


def uf2_of(elf: Path, board: Board) -> bytes:
    """The firmware as a UF2 file for that board. Raises BoardError where the board takes none, ToolError for what is no firmware."""
    return uf2(segments(elf), entry(_table(board), "family", int, "a family ID of UF2", board))


def _check_family(board: Board, board_id: str) -> None:
    """Raises BoardError where the boot loader with that Board-ID is known to skip what is meant for the board's family."""
    family, taken = _table(board)["family"], TAKEN.get(board_id, ())
    if taken and family not in taken:
        known = " or ".join(f"0x{one:08x}" for one in taken)
        message = f"Board {board.name}: family in [flash] is 0x{family:08x}, which the boot loader {board_id} skips; expected {known}."
        raise BoardError(message, hint="See docs/boards.md.")


def _table(board: Board) -> Any:
    return entry(board.flash, Uf2.name, dict, "a table with family and board_id", board)


def _found(wanted: str) -> Path:
    """The one mounted drive of that board."""
    drives = {drive: _board_id(drive) for drive in _drives()}
    fitting = [drive for drive, name in drives.items() if name is not None and name.startswith(wanted)]
    if len(fitting) != 1:
        seen = "; ".join(f"{drive} is {name or 'none'}" for drive, name in drives.items()) or "no drive with INFO_UF2.TXT is mounted"
        raise DeviceError(
            f"Expected one boot drive whose Board-ID begins with {wanted}, found {len(fitting)}: {seen}.",
            hint="Start the board's boot loader (on a Pico hold BOOTSEL while plugging in) and mount its drive, or give --via uf2:FOLDER.",
        )
    return fitting[0]


def _checked(drive: Path, wanted: str) -> Path:
    """The drive that was named. Raises DeviceError where it is none, or that of another chip."""
    found = _board_id(drive)
    if found is None or not found.startswith(wanted):
        what = "no INFO_UF2.TXT with a Board-ID" if found is None else f"Board-ID {found}"
        raise DeviceError(f"{drive} has {what}; expected one that begins with {wanted}.", hint="Is it the drive of this board?")
    return drive


def _drives() -> Iterator[Path]:
    for mount in MOUNTS:
        for depth in range(1, _DEPTH + 1):
            yield from (info.parent for info in sorted(mount.glob("*/" * depth + INFO)))


def _board_id(drive: Path) -> str | None:
    path = drive / INFO
    if not path.is_file():
        return None
    text = read_limited(path, _MOST_INFO_BYTES, "what a boot loader says of itself", DeviceError).decode("ascii", "replace")
    line = re.search(r"^Board-ID:\s*(\S+)", text, re.MULTILINE)
    return line[1] if line else None
