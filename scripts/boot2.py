# SPDX-License-Identifier: Apache-2.0
"""Assembles boards/soc/rp2040/boot2.S, puts the CRC behind it that the ROM of an RP2040 wants, and writes boot2.c beside it.

Its CRC-32 (data sheet section 2.8.1.3.1) has the polynomial of Ethernet, the highest bit first, begins with all ones and is not inverted.
"""

from __future__ import annotations

import struct
import subprocess
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent / "boards" / "soc" / "rp2040"
CODE_BYTES = 252
COMMAND = "python scripts/boot2.py"
_TEXT = """/* SPDX-License-Identifier: Apache-2.0 */
/* boot2.S, assembled and with its CRC, by `{command}`. */
#include <stdint.h>

extern const uint32_t tt_boot2[64];
__attribute__((section(".boot2"), used)) const uint32_t tt_boot2[64] = {{
{words}
}};
"""


def crc32_of_rom(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte << 24
        for _ in range(8):
            crc = (crc << 1 ^ (0x04C11DB7 if crc >> 31 else 0)) & 0xFFFFFFFF
    return crc


def boot2() -> bytes:
    """The 256 bytes."""
    with tempfile.TemporaryDirectory() as folder:
        for command in (["as", "-o", "boot2.o", HERE / "boot2.S"], ["objcopy", "-O", "binary", "-j", ".text", "boot2.o", "boot2.bin"]):
            subprocess.run([f"arm-none-eabi-{command[0]}", *command[1:]], cwd=folder, check=True)
        code = (Path(folder) / "boot2.bin").read_bytes()
    assert len(code) <= CODE_BYTES, f"{len(code)} bytes"
    code = code.ljust(CODE_BYTES, b"\0")
    return code + struct.pack("<I", crc32_of_rom(code))


def text() -> str:
    words = [f"0x{word:08X}," for word in struct.unpack("<64I", boot2())]
    return _TEXT.format(command=COMMAND, words="\n".join("    " + " ".join(words[i : i + 8]) for i in range(0, 64, 8)))


if __name__ == "__main__":
    (HERE / "boot2.c").write_text(text(), encoding="utf-8")
