# SPDX-License-Identifier: Apache-2.0
"""A trial on its board: one firmware with all choices (bench.c), each run once in the emulator, checked, and counted."""

from __future__ import annotations

import struct
import tempfile
import time
import zlib
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TypedDict

import numpy as np

from tinytrain.device.counting import Counter, Profile
from tinytrain.device.qemu import start_qemu
from tinytrain.errors import DeviceError
from tinytrain.ir.types import Array
from tinytrain.target.board import Board, load_board
from tinytrain.target.build import build_apart, project_files
from tinytrain.target.size import sizes
from tinytrain.tune.trial import STEM, Trial
from tinytrain.verify.checks import first_difference

NAME = "trial"
STACK_BYTES = 8192
SECONDS = 60.0                                            # that one answer may take


class Tried(TypedDict):
    """What came out: counts of each right choice (instructions, estimated cycles, bytes of code), and why others are wrong."""

    counts: dict[str, tuple[int, int | None, int]]
    wrong: dict[str, str]


def tried(trial: Trial) -> Tried:
    """Build, run, compare. Raises ToolError without tools, DoesNotFit where the board has no room for the call."""
    board = load_board(trial.board)
    model, main = {"trial.c": trial.source, "trial.h": trial.header}, Path(__file__).with_name("bench.c").read_text(encoding="utf-8")
    files = project_files(board, NAME, model, stack_bytes=STACK_BYTES, arena_bytes=trial.arena_bytes, main=main)
    built = build_apart({path: text.encode() for path, text in files.items()}, NAME, board, jobs=1)
    found = Tried(counts={}, wrong={})
    with tempfile.TemporaryDirectory(prefix="tinytrain-") as folder:
        elf = Path(folder) / f"{NAME}.elf"
        elf.write_bytes(built[elf.name])
        code = sizes(elf).by_symbol
        left, bits = list(enumerate(trial.choices)), _Bits(trial)
        while left:
            with closing(Bench(elf, board, trial)) as bench:
                left = _all_of(bench, left, bits, code, found)
    return found


def _all_of(bench: Bench, left: Sequence[tuple[int, str]], bits: _Bits, code: dict[str, int], found: Tried) -> list[tuple[int, str]]:
    """Try these; those behind one at which the device stopped are left."""
    for turn, (number, choice) in enumerate(left, start=1):
        try:
            why = bits.differ(*bench.run(number), bench)
        except DeviceError as error:
            found["wrong"][choice] = f"it stopped the device ({error.sentences[0]})"
            return list(left[turn:])
        if why is None:
            profile, stem = bench.profile(), STEM.format(number)
            own = sum(size for symbol, size in code.items() if symbol == stem or symbol.startswith((f"{stem}.", f"{stem}_call")))
            found["counts"][choice] = profile.instructions, profile.cycles, own
        else:
            found["wrong"][choice] = why
            bench.load()                                  # who knows what else it wrote
    return []


class _Bits:
    """What is right: the reference, and of floats the very bits of the first choice that is right by that."""

    def __init__(self, trial: Trial) -> None:
        self.trial = trial
        self._right: int | None = None                    # CRC of the outputs

    def differ(self, crc: int, whole: bool, bench: Bench) -> str | None:
        """What is wrong with the outputs that the bench holds; None where nothing is."""
        if not whole:
            return "bytes around its buffers were overwritten"
        if crc == self._right:
            return None
        got = bench.outputs()
        assert zlib.crc32(b"".join(a.tobytes() for a in got)) == crc, f"{self.trial.call}: outputs arrived damaged"
        for number, (a, b, dtype) in enumerate(zip(got, self.trial.want, self.trial.dtypes, strict=True)):
            # sums of many products: an error is small beside the largest of them, not beside each
            scale = max(1.0, float(np.abs(b.astype(np.float64)).max(initial=0))) if dtype.is_float else 1.0
            if difference := first_difference(a, b, dtype, scale):
                return f"output {number} differs {difference}"
        if self._right is not None:
            return "its floats have other bits than those of other kernels"
        self._right = crc
        return None


class Bench:
    """A running firmware of a trial, with the inputs in place. Raises DeviceError where it does not answer."""

    def __init__(self, elf: Path, board: Board, trial: Trial) -> None:
        self.trial = trial
        self._received = b""
        self._counter = Counter(elf, board)
        try:
            self._device = start_qemu(elf, board, more=self._counter.arguments)
        except BaseException:
            self._counter.close()
            raise
        try:
            self._take(1)
            self.load()
        except BaseException:
            self.close()
            raise

    def load(self) -> None:
        """Put the inputs in place, and whole guards around everything."""
        self._put(b"L" + b"".join(self.trial.inputs))
        self._take(1)

    def run(self, number: int) -> tuple[int, bool]:
        """CRC-32 of the outputs of a choice, and whether nothing beside them was written."""
        self._put(b"R" + struct.pack("<H", number))
        crc, whole = struct.unpack("<IB", self._take(5))
        if whole > 1:                                     # a fault, of which the runtime tells in a frame
            raise DeviceError(f"{self._device.name} does not answer as it should.")
        return int(crc), whole == 1

    def outputs(self) -> list[Array]:
        self._put(b"D")
        return [np.frombuffer(self._take(a.nbytes), a.dtype).reshape(a.shape) for a in self.trial.want]

    def profile(self) -> Profile:
        """Of the choice that ran last."""
        return self._counter.read()

    def close(self) -> None:
        self._device.close()
        self._counter.close()

    def _put(self, data: bytes) -> None:
        self._device.write(data, time.monotonic() + SECONDS)

    def _take(self, count: int) -> bytes:
        deadline = time.monotonic() + SECONDS
        while len(self._received) < count:
            chunk = self._device.read(deadline)
            if not chunk:
                raise DeviceError(f"{self._device.name} did not answer in {SECONDS:g} s.")
            self._received += chunk
        taken, self._received = self._received[:count], self._received[count:]
        return taken
