# SPDX-License-Identifier: Apache-2.0
"""OpenOCD: chips by a debug probe. [flash] openocd = ["interface/NAME.cfg", "target/NAME.cfg"], files of its scripts folder."""

from __future__ import annotations

from pathlib import Path

from tinytrain.device.flashers.tool import Commands, Firmware, Flasher


class OpenOcd(Flasher):
    name = "openocd"
    programs = ("openocd",)
    get = "apt-get install openocd"
    proof = r"\*\* Verified OK \*\*"

    def prepare(self, firmware: Firmware, where: str) -> tuple[dict[Path, bytes], Commands]:
        files = self.data(firmware.board, list, "a list of its configuration files")
        configured = [word for file in files for word in ("-f", str(file))]
        return {}, (["openocd", *configured, "-c", f"program {{{firmware.elf}}} verify reset exit"],)
