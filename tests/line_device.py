# SPDX-License-Identifier: Apache-2.0
"""A compiled project in this process behind a line that loses and damages bytes, by a seed, in a time of its own."""

from __future__ import annotations

import ctypes
import random
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).resolve().parent / "line_device.c"
REPLACED = ("main.c", "port_host.c", "tt_link.c")         # line_device.c has them
OUT_BYTES = 1 << 20


def sources(project: Path) -> list[str]:
    """Arguments of a C compiler for the firmware of a host project, without its port."""
    files = [path for path in sorted(project.rglob("*.c")) if path.name not in REPLACED]
    folders = sorted({path.parent for path in project.rglob("*.[ch]")})
    return [*(f"-I{folder}" for folder in folders), str(SOURCE), *map(str, files)]


def build_device(project: Path) -> Path:
    """The project as a library of this process, at a new path each time: its state is in it."""
    library = project / "device.so"
    compiler = next(filter(None, map(shutil.which, ("gcc", "clang", "clang-19"))))
    flags = ["-std=c99", "-O2", "-ffp-contract=off", "-shared", "-fPIC"]
    subprocess.run([compiler, *flags, *sources(project), "-o", str(library)], check=True)
    return library


class Device:
    """The C of the firmware; a copy of the library is a device of its own."""

    def __init__(self, library: Path, folder: Path) -> None:
        own = Path(shutil.copy(library, folder / f"device{len([*folder.glob('device*.so')])}.so"))
        self._library, self._answer = ctypes.CDLL(str(own)), ctypes.create_string_buffer(OUT_BYTES)
        self.reset()

    def reset(self) -> None:
        self._library.device_start()

    def give(self, data: bytes) -> bytes:
        count = self._library.device_give(data, len(data), self._answer)
        return ctypes.string_at(self._answer, count)


@dataclass
class Damage:
    """What becomes of each byte, both ways: `lost` and `flipped` (one to eight bits of it) are parts of 1."""

    lost: float = 0.0
    flipped: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)

    def of(self, data: bytes) -> bytes:
        if not self.lost + self.flipped:
            return data
        kept = bytearray()
        for byte in data:
            chance = self.rng.random()
            if chance >= self.lost:
                kept.append(byte ^ (self.rng.randrange(1, 256) if chance < self.lost + self.flipped else 0))
        return bytes(kept)


class Line:
    """A transport to a device. Its time passes only while nothing comes; `clock` tells it."""

    name = "the device on the line"
    doubt = ""

    def __init__(self, device: Device, damage: Damage) -> None:
        self.device, self.damage = device, damage
        self.now = 0.0
        self.sent = self.received = 0
        self._arrived = b""

    def clock(self) -> float:
        return self.now

    def write(self, data: bytes, deadline: float) -> None:
        self.sent += len(data)
        answer = self.device.give(self.damage.of(data))
        self.received += len(answer)
        self._arrived += self.damage.of(answer)

    def read(self, deadline: float) -> bytes:
        data, self._arrived = self._arrived, b""
        self.now = self.now + 1e-6 if data else max(self.now, deadline)
        return data

    def close(self) -> None:
        pass
