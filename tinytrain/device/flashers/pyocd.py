# SPDX-License-Identifier: Apache-2.0
"""pyOCD: Cortex-M chips by a debug probe (CMSIS-DAP, ST-LINK, J-Link). [flash] pyocd = "TARGET", as `pyocd list --targets` calls it."""

from __future__ import annotations

from pathlib import Path

from tinytrain.device.flashers.tool import Commands, Firmware, Flasher
from tinytrain.target.image import flat, segments


class PyOcd(Flasher):
    name = "pyocd"
    programs = ("pyocd",)
    get = "pip install 'tinytrain[flash]'"
    where = "the probe's unique ID, where there are several"
    proof = r"All \d+ bytes match"

    def prepare(self, firmware: Firmware, where: str) -> tuple[dict[Path, bytes], Commands]:
        """pyOCD itself does not read back, so a second command compares the chip with a flat image."""
        target = self.data(firmware.board, str, "a target of pyOCD")
        probe = ["--no-wait", "--target", target, *(["--uid", where] if where else [])]
        start, image = flat(segments(firmware.elf))
        flat_file = firmware.elf.with_suffix(".bin")
        compare = f'compare 0x{start:08x} "{flat_file}"'
        return {flat_file: image}, (
            ["pyocd", "flash", *probe, str(firmware.elf)],
            ["pyocd", "commander", *probe, "-c", compare, "-c", "reset"],
        )
