# SPDX-License-Identifier: Apache-2.0
"""A kit in Unicorn, an emulator of instructions; registers do what `kit_chips.py` has read in the manual of its chip.

    python kit_emulator.py BOARD ELF [FLASH]

The serial port is standard input and output. Its bytes are garbled where the rate that the firmware has set does not follow from the clocks
that it has set; what the chip would not stand ends the run with a message. The file FLASH keeps the pages of the store.
"""

from __future__ import annotations

import os
import select
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kit_chips import UARTS, Chip, Misuse, chip_of
from unicorn import UC_ARCH_ARM, UC_ARCH_RISCV, UC_HOOK_CODE, UC_HOOK_MEM_WRITE, UC_MODE_MCLASS, UC_MODE_RISCV32, UC_MODE_THUMB, Uc
from unicorn import arm_const as arm
from unicorn import riscv_const as riscv

from tinytrain.target.board import Board, load_board
from tinytrain.target.image import flat, segments

CORES = {"cortex-m0plus": "M0", "cortex-m33": "M33", "cortex-m4": "M4", "cortex-m7": "M7"}
SYSTEM = 0xE000_0000, 0x10_0000                           # of a Cortex-M
CCSIDR, CACHE_SETS = 0xE000_ED80, 32
OWN_CSRS = (0x320, 0x7E0, 0x7E1, 0x7E2, 0xBE0)            # which Unicorn's RISC-V core does not have
_BAUD_ERROR = 0.03


class Kit:
    """The processor, its memories, and the chip's registers between them and the host."""

    def __init__(self, board: Board, elf: Path, kept: Path | None) -> None:
        self.board, self.kept, self.received, self.sent, self.empty = board, kept, bytearray(), bytearray(), 0
        self.arm = board.core in CORES
        self.uc = Uc(UC_ARCH_ARM, UC_MODE_THUMB | UC_MODE_MCLASS) if self.arm else Uc(UC_ARCH_RISCV, UC_MODE_RISCV32)
        if self.arm:
            self.uc.ctl_set_cpu_model(getattr(arm, f"UC_CPU_ARM_CORTEX_{CORES[board.core]}"))
            self.uc.mmio_map(*SYSTEM, self._system, None, lambda uc, at, size, value, data: None, None)
        assert board.rom is not None
        self.rom = board.rom
        for start in self.rom.views():
            self.uc.mem_map(start, self.rom.bytes)
        for memory in board.rams:
            self.uc.mem_map(memory.origin, memory.bytes + -memory.bytes % 4096)
        self._poke(self.rom.origin, self._code(elf))
        if kept and kept.exists():
            self._poke(self._store(), kept.read_bytes())
        self.chip: Chip = chip_of(board, self)
        self.uart = next(UARTS[source] for source in board.sources if source in UARTS)
        self.port = board.defines["TT_UART_BASE"]
        base = self.chip.peripherals[0]
        self.uc.mmio_map(*self.chip.peripherals, lambda uc, at, size, data: self._tried(self._read, base + at), None,
                         lambda uc, at, size, value, data: self._tried(self._write, base + at, value), None)
        self.uc.hook_add(UC_HOOK_MEM_WRITE, lambda uc, access, at, size, value, data: self._tried(self._stored, at, size, value),
                         begin=self.rom.origin, end=self.rom.origin + self.rom.bytes - 1)

    def run(self) -> None:
        """Until the host goes."""
        at = self.rom.origin + self.chip.vectors
        counter, pc = (arm.UC_ARM_REG_PC, 0) if self.arm else (riscv.UC_RISCV_REG_PC, self.entry)
        if self.arm:
            stack, pc = struct.unpack("<2I", self.uc.mem_read(at, 8))
            self.uc.reg_write(arm.UC_ARM_REG_SP, stack)
        while True:                                       # each sleep comes back here
            self.uc.emu_start(pc, 0xFFFF_FFF0)
            pc = self.uc.reg_read(counter) | self.arm

    # What a chip does to memories.

    def erase(self, at: int, bytes_: int) -> None:
        self._keep(at, b"\xff" * bytes_)

    def program(self, at: int, data: bytes) -> None:
        old = self.uc.mem_read(at, len(data))
        if any(new & ~was for new, was in zip(data, old, strict=True)):
            raise Misuse(f"flash at 0x{at:08x} is programmed before it is erased")
        self._keep(at, data)

    def ram(self, at: int, bytes_: int) -> bytes:
        return bytes(self.uc.mem_read(at, bytes_))

    def put_rom(self, rom: bytes) -> None:
        self.uc.mem_map(0, len(rom))
        self.uc.mem_write(0, rom)

    def call(self, at: int, does: Callable[[list[int]], int]) -> None:
        """What a function of the ROM does with its arguments, and returns; none but the look-up may be called from flash."""
        names = [getattr(arm, f"UC_ARM_REG_R{i}") if self.arm else getattr(riscv, f"UC_RISCV_REG_A{i}") for i in range(4)]
        link = arm.UC_ARM_REG_LR if self.arm else riscv.UC_RISCV_REG_RA

        def called(*_: Any) -> None:
            if does.__name__ != "lookup" and self.uc.reg_read(link) < 0x2000_0000:
                raise Misuse(f"{does.__name__} of the ROM is called from flash")
            self.uc.reg_write(names[0], does([self.uc.reg_read(name) for name in names][: 2 if does.__name__ == "lookup" else 4]))

        self.uc.hook_add(UC_HOOK_CODE, lambda *_: self._tried(called), begin=at, end=at)

    # What the firmware does.

    def _read(self, at: int) -> int:
        if at == self.port + self.uart.status:
            return self.uart.value(self._waiting())
        if at == self.port + self.uart.take and self.received:
            return self.received.pop(0) ^ self._garbled()
        return self.chip.read(at)

    def _write(self, at: int, value: int) -> None:
        if at == self.port + self.uart.put:
            self.chip.check()
            self.sent.append(value & 0xFF ^ self._garbled())
            self.empty = 0
        else:
            self.chip.write(at, value)

    def _stored(self, at: int, size: int, value: int) -> None:
        self.chip.may_program(at, size)
        self.program(at, (value & (1 << 8 * size) - 1).to_bytes(size, "little"))

    def _system(self, uc: Uc, at: int, size: int, data: Any) -> int:
        return CACHE_SETS - 1 << 13 if SYSTEM[0] + at == CCSIDR else 0

    def _garbled(self) -> int:
        baud = self.uart.baud(lambda at: self.chip.seen.get(self.port + at, 0), self.chip.uart_hz())
        return 0 if abs(baud / self.board.defines["TT_UART_BAUD"] - 1) < _BAUD_ERROR else 0x55

    def _waiting(self) -> int:
        """Bytes that have come. A firmware that asks again and again has said what it has to say, and sleeps a little."""
        self.empty = 0 if self.received else self.empty + 1
        while self.sent and self.empty > 2:
            del self.sent[: os.write(1, self.sent)]
        if not self.received and select.select([0], [], [], 0.002 if self.empty > 2 else 0)[0]:
            data = os.read(0, 1 << 16)
            if not data:
                os._exit(0)
            self.received += data
        return len(self.received)

    def _tried(self, does: Callable[..., Any], *given: int) -> Any:
        try:
            return does(*given)
        except Exception as error:                        # Unicorn would go on
            print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
            os._exit(3)

    def _code(self, elf: Path) -> bytes:
        start, image = flat(segments(elf))
        assert start == self.rom.origin
        from elftools.elf.elffile import ELFFile

        with elf.open("rb") as stream:
            self.entry = ELFFile(stream)["e_entry"]
        return image if self.arm else _without_own_csrs(image)

    def _store(self) -> int:
        assert self.board.store is not None
        return self.board.store.base

    def _poke(self, at: int, data: bytes) -> None:
        for start in self.rom.views():
            self.uc.mem_write(start + at - self.rom.origin, data)

    def _keep(self, at: int, data: bytes) -> None:
        self._poke(at, data)
        if self.kept:
            store = self.board.store
            assert store is not None
            if not self.kept.exists():
                self.kept.write_bytes(b"\xff" * store.pages * store.page_bytes)
            with self.kept.open("r+b") as file:
                file.seek(at - store.base)
                file.write(data)


def _without_own_csrs(code: bytes) -> bytes:
    """Instructions that read or write them as such that do nothing, or read a zero (`li rd, 0`)."""
    made = bytearray(code)
    for at in range(0, len(code) - 3, 2):
        word = struct.unpack_from("<I", code, at)[0]
        if word & 0x7F == 0x73 and word >> 12 & 3 and word >> 20 in OWN_CSRS:
            struct.pack_into("<I", made, at, 0x13 | word & 0xF80)
    return bytes(made)


if __name__ == "__main__":
    Kit(load_board(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]) if len(sys.argv) > 3 else None).run()
