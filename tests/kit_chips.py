# SPDX-License-Identifier: Apache-2.0
"""Registers of the chips of kits for `kit_emulator.py`: what start-up, serial port and flash drivers use, by manuals that C cites.

What was written is read back, but for what a chip's class says.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from tinytrain.target.board import Board
from tinytrain.target.table import read_toml

KB = 1024


class Misuse(Exception):
    """What the chip would not stand, or would not do."""


def need(holds: bool, what: str) -> None:
    if not holds:
        raise Misuse(what)


class Flash(Protocol):
    """What a chip does to the kit's memories."""

    board: Board

    def erase(self, at: int, bytes_: int) -> None: ...
    def program(self, at: int, data: bytes) -> None: ...
    def ram(self, at: int, bytes_: int) -> bytes: ...
    def call(self, at: int, does: Callable[[list[int]], int]) -> None: ...
    def put_rom(self, rom: bytes) -> None: ...


@dataclass(frozen=True)
class Uart:
    """Offsets of registers; `value` of the status where so many bytes have come, `baud` by the registers and the clock."""

    status: int
    value: Callable[[int], int]
    take: int
    put: int
    baud: Callable[[Callable[[int], int], float], float]


UARTS = {
    "uart_pl011.c": Uart(0x18, lambda n: 0 if n else 0x10, 0, 0, lambda r, hz: hz * 4 / (64 * r(0x24) + r(0x28))),
    "uart_stm32.c": Uart(0, lambda n: 0x80 | (0x20 if n else 0), 4, 4, lambda r, hz: hz / r(8)),
    "uart_stm32v2.c": Uart(0x1C, lambda n: 0x80 | (0x20 if n else 0), 0x24, 0x28, lambda r, hz: hz / r(0xC)),
    "uart_nrf.c": Uart(0x108, lambda n: int(n > 0), 0x518, 0x51C, lambda r, hz: r(0x524) * hz / 2**32),
    "uart_esp32c3.c": Uart(0x1C, lambda n: min(n, 128), 0, 0, lambda r, hz: hz / ((r(0x14) & 0xFFF) + (r(0x14) >> 20) / 16)),
}


class Chip:
    vectors = 0                                           # bytes of flash before them
    peripherals = 0x4000_0000, 0x2000_0000

    def __init__(self, kit: Flash) -> None:
        self.kit, self.seen = kit, dict[int, int]()
        self.hse_hz: int = read_toml(kit.board.file).get("clock", {}).get("hse_hz", 0)

    def read(self, at: int) -> int:
        return self.seen.get(at, 0)

    def write(self, at: int, value: int) -> None:
        self.seen[at] = value

    def hz(self) -> float:
        """Of the processor."""
        raise NotImplementedError

    def uart_hz(self) -> float:
        return self.hz()

    def check(self) -> None:
        """Before a byte is sent: whether the chip may run as it does."""

    def may_program(self, at: int, bytes_: int) -> None:
        raise Misuse(f"a store to flash at 0x{at:08x}")


def apb(code: int) -> int:
    return 1 if code < 4 else 2 << code - 4


class Stm32F4(Chip):
    RCC, ACR, KEYR, SR, CR = 0x4002_3800, 0x4002_3C00, 0x4002_3C04, 0x4002_3C0C, 0x4002_3C10
    CFGR, PLLCFGR, PORTS, PORT = RCC + 8, RCC + 4, RCC + 0x30, 0x4002_0000
    small, most_hz, apb_hz = 16 * KB, 168e6, (42e6, 84e6)

    def __init__(self, kit: Flash) -> None:
        super().__init__(kit)
        self.seen |= {self.PLLCFGR: 0x2400_3010, self.CR: 1 << 31}
        self.key = 0

    def read(self, at: int) -> int:
        value = super().read(at)
        if at == self.RCC:
            return value | (value & 0x0101_0000) << 1     # what is on is ready
        return value & ~0xC | (value & 3) << 2 if at == self.CFGR else value

    def write(self, at: int, value: int) -> None:
        if self.PORT <= at < self.PORT + 11 * 0x400:
            need(bool(self.seen.get(self.PORTS, 0) >> (at - self.PORT) // 0x400 & 1), "a port without a clock is written")
        if at == self.KEYR:
            unlocks = (self.key, value) == (0x4567_0123, 0xCDEF_89AB)
            self.key = value
            self.seen[self.CR] &= ~(1 << 31) if unlocks else -1
        elif at == self.CR:
            need(not self.seen[at] >> 31, "a locked flash controller is written")
            self.seen[at] = value & 0x8100_03FB
            if value >> 16 & 1:
                self.erase(value)
        elif at != self.SR:
            super().write(at, value)
        if at == self.CFGR:
            self.check()

    def erase(self, control: int) -> None:
        sector, small = control >> 3 & 15, self.small
        at = sector * small if sector < 4 else 4 * small if sector == 4 else (sector - 4) * 8 * small
        need(control >> 1 & 1 == 1 and control >> 8 & 3 == 2, "an erasure by words was not asked for")
        self.kit.erase(0x0800_0000 + at, small if sector < 4 else 4 * small if sector == 4 else 8 * small)

    def may_program(self, at: int, bytes_: int) -> None:
        control = self.seen[self.CR]
        need(control & 0x301 == 0x201 and not control >> 31 and bytes_ == 4, "flash is not ready to be programmed by words")

    def hz(self) -> float:
        cfgr, pll = self.seen.get(self.CFGR, 0), self.seen[self.PLLCFGR]
        source = self.hse_hz if pll >> 22 & 1 else 16e6
        need(pll >> 24 & 15 >= 2 and pll >> 28 == 2, "Q or R of the PLL")
        return source / (pll & 63) * (pll >> 6 & 511) / (2 * (pll >> 16 & 3) + 2) if cfgr & 3 == 2 else 16e6

    def uart_hz(self) -> float:
        cfgr = self.seen.get(self.CFGR, 0)
        return self.hz() / apb(cfgr >> (13 if self.kit.board.defines["TT_UART_BASE"] >= 0x4001_0000 else 10) & 7)

    def check(self) -> None:
        hz, cfgr = self.hz(), self.seen.get(self.CFGR, 0)
        need(hz <= 30e6 * (1 + (self.seen.get(self.ACR, 0) & 15)), "too few wait states")
        need(hz <= self.most_hz and hz / apb(cfgr >> 10 & 7) <= self.apb_hz[0] and hz / apb(cfgr >> 13 & 7) <= self.apb_hz[1], "too fast")


class Stm32F7(Stm32F4):
    PWR = 0x4000_7000
    small, most_hz, apb_hz = 32 * KB, 216e6, (54e6, 108e6)

    def read(self, at: int) -> int:
        on = self.seen.get(self.PWR, 0)
        return (on & 0x1_0000) | (on & on << 1 & 0x2_0000) if at == self.PWR + 4 else super().read(at)

    def check(self) -> None:
        super().check()
        over = self.read(self.PWR + 4) >> 17 & self.seen.get(self.RCC + 0x40, 0) >> 28 & 1
        need(self.hz() <= 180e6 or over == 1, "over-drive is off")


class Stm32H7(Chip):
    RCC, CFGR, ACR, PWR, PORT = 0x5802_4400, 0x5802_4410, 0x5200_2000, 0x5802_4800, 0x5802_0000

    def read(self, at: int) -> int:
        value = super().read(at)
        if at == self.RCC:
            return value | (value & 0x0101_0000) << 1
        if at in (self.PWR + 4, self.PWR + 0x18):         # voltages are there
            return value | 1 << 13
        return value & ~0x38 | (value & 7) << 3 if at == self.CFGR else value

    def write(self, at: int, value: int) -> None:
        if self.PORT <= at < self.PORT + 11 * 0x400:
            need(bool(self.seen.get(self.RCC + 0xE0, 0) >> (at - self.PORT) // 0x400 & 1), "a port without a clock is written")
        if at == self.PWR + 0x18:
            need(self.PWR + 0xC in self.seen, "a scale before the supply")
        super().write(at, value)
        if at == self.CFGR:
            self.check()

    def hz(self) -> float:
        select, pll, divider = (self.seen.get(self.RCC + at, 0) for at in (0x28, 0x2C, 0x30))
        need(select & 3 == 2 and pll >> 16 & 1 == 1 and pll >> 2 & 3 == 1, "not the crystal, P is off, or another range")
        vco = self.hse_hz / (select >> 4 & 63) * ((divider & 511) + 1)
        need(192e6 <= vco <= 836e6 and 2e6 <= self.hse_hz / (select >> 4 & 63) <= 4e6, "PLL out of range")
        return vco / ((divider >> 9 & 127) + 1) if self.seen.get(self.CFGR, 0) & 7 == 3 else 64e6

    def bus_hz(self) -> float:
        return self.hz() / (2 if self.seen.get(self.RCC + 0x18, 0) & 15 == 8 else 1)

    def uart_hz(self) -> float:
        return self.bus_hz() / apb(self.seen.get(self.RCC + 0x1C, 0) >> 4 & 7)

    def check(self) -> None:
        need(self.bus_hz() <= 70e6 * (1 + (self.seen.get(self.ACR, 0) & 15)), "too few wait states")
        need(self.hz() <= 400e6 and self.bus_hz() <= 200e6 and self.uart_hz() <= 100e6, "too fast")
        need(self.seen.get(self.PWR + 0x18, 0) >> 14 == 3, "scale of the regulator")


class Nrf(Chip):
    NVMC = 0x4001_E000

    def read(self, at: int) -> int:
        if at in (self.NVMC + 0x400, 0x4000_211C):        # flash is ready, a byte is sent
            return 1
        return self.seen.get(0x4000_0000, 0) if at == 0x4000_0100 else super().read(at)

    def write(self, at: int, value: int) -> None:
        super().write(at, value)
        if at == self.NVMC + 0x508:
            need(self.seen.get(self.NVMC + 0x504) == 2, "erasing is off")
            self.kit.erase(value, 4 * KB)

    def may_program(self, at: int, bytes_: int) -> None:
        need(self.seen.get(self.NVMC + 0x504) == 1 and bytes_ == 4, "programming is off")

    def hz(self) -> float:
        return 64e6

    def uart_hz(self) -> float:
        return 16e6


class Esp32C3(Chip):
    peripherals = 0x6000_0000, 0x1000_0000
    KEYS = {0x6001_F048: (0x6001_F064, 0x50D8_3AA1), 0x6002_0048: (0x6002_0064, 0x50D8_3AA1), 0x6000_8090: (0x6000_80A8, 0x50D8_3AA1),
            0x6000_80AC: (0x6000_80B0, 0x8F1D_312A)}

    def __init__(self, kit: Flash) -> None:
        super().__init__(kit)
        self.seen |= {0x6001_F048: 1 << 14, 0x6002_0048: 1 << 14, 0x6000_8090: 1 << 31, 0x600C_0058: 1}

    def read(self, at: int) -> int:
        return super().read(at) & ~(1 << 31 if at == 0x6000_0080 else 0)

    def write(self, at: int, value: int) -> None:
        lock, key = self.KEYS.get(at, (0, 0))
        if not lock or self.seen.get(lock) == key:
            super().write(at, value)

    def check(self) -> None:
        guards = [self.seen.get(at, 0) for at in self.KEYS]
        need(not any(guard >> 31 or guard >> 14 & 1 for guard in guards[:3]) and guards[3] >> 31 == 1, "a watchdog is on")

    def hz(self) -> float:
        return 40e6 / ((self.seen[0x600C_0058] & 0x3FF) + 1)

    def uart_hz(self) -> float:
        need(self.seen.get(0x6000_0078, 0) >> 20 & 7 == 7, "the port's clock")
        return 40e6


class Rp2(Chip):
    """With a boot ROM that keeps its functions at 0x200, and what they do in Python."""

    FUNCTIONS = ("IF", "EX", "FC", "CX", "RE", "RP")
    riscv = False

    def __init__(self, kit: Flash) -> None:
        super().__init__(kit)
        self.base = {key: kit.board.defines[f"TT_{key}"] for key in ("RESETS", "CLOCKS", "XOSC", "PLL")}
        self.seen |= {self.base["RESETS"]: 0x1FFF_FFFF, self.base["PLL"] + 4: 0x2D}
        self.riscv = "port_riscv.c" in kit.board.sources
        self.first = kit.board.core == "cortex-m0plus"    # an RP2040
        self.vectors = 0x100 if self.first else 0
        self.serial = False                               # flash takes commands, and does not answer reads of memory
        back = struct.pack("<H", 0x8082 if self.riscv else 0x4770)
        rom = bytearray(32 * KB)
        for at in (0x100, *(0x200 + 4 * i for i in range(len(self.FUNCTIONS)))):
            rom[at : at + 2] = back
        rom[0x14:0x1A] = struct.pack("<3H", 0x180, 0x101, 0x101)
        rom[0x7DFA:0x7DFC] = struct.pack("<H", 0x100)
        self.boot_ram = back * 2
        kit.put_rom(bytes(rom))
        kit.call(0x100, self.lookup)
        for i, name in enumerate(self.FUNCTIONS):
            kit.call(0x200 + 4 * i, getattr(self, name))

    def lookup(self, given: list[int]) -> int:
        table, code = given if self.first else (given[1], given[0])
        need(table == (0x180 if self.first else 1 if self.riscv else 4), "another table, or for other cores")
        return (0x200 + 4 * self.FUNCTIONS.index(struct.pack("<H", code).decode())) | (0 if self.riscv else 1)

    def IF(self, given: list[int]) -> int:
        return 0

    def EX(self, given: list[int]) -> int:
        self.serial = True
        return 0

    def FC(self, given: list[int]) -> int:
        self.serial = False
        return 0

    CX = IF

    def RE(self, given: list[int]) -> int:
        need(self.serial and given[2:] == [64 * KB, 0xD8] and given[0] % 4096 == given[1] % 4096 == 0, "erased by other arguments")
        self.kit.erase(0x1000_0000 + given[0], given[1])
        return 0

    def RP(self, given: list[int]) -> int:
        need(self.serial and given[0] % 256 == given[2] % 256 == 0, "programmed by other arguments")
        self.kit.program(0x1000_0000 + given[0], self.kit.ram(given[1], given[2]))
        return 0

    def read(self, at: int) -> int:
        resets, clocks, xosc, pll = self.base.values()
        if 0x400E_0000 <= at < 0x400E_0400:
            return int.from_bytes(self.boot_ram, "little")
        if at == resets + 8:
            return ~self.seen[resets] & 0x1FFF_FFFF
        if at == xosc + 4:
            return 1 << 31 if self.seen.get(xosc) == 0xFA_BAA0 else 0
        if at in (clocks + 0x38, clocks + 0x44):
            return 1 << (self.seen.get(at - 8, 0) & (3 if at == clocks + 0x38 else 1))
        if at == pll:
            on = not self.seen[resets] >> (12 if self.first else 14) & 1 and not self.seen[pll + 4] & 0x21
            return self.seen.get(pll, 0) | (1 << 31 if on else 0)
        return super().read(at)

    def write(self, at: int, value: int) -> None:
        way, to = at >> 12 & 3, at & ~0x3000
        old = self.seen.get(to, 0)
        super().write(to, (value, old ^ value, old | value, old & ~value)[way])

    def hz(self) -> float:
        clocks, pll = self.base["CLOCKS"], self.base["PLL"]
        if not self.seen.get(clocks + 0x3C, 0) & 1:
            return 6.5e6 if self.first else 11e6
        vco, post = self.hse_hz / self.seen[pll] * self.seen[pll + 8], self.seen[pll + 0xC]
        need(750e6 <= vco <= 1600e6 and not self.seen[pll + 4] & 8 and post >> 16 >= (post >> 12 & 7), "PLL")
        return vco / (post >> 16) / (post >> 12 & 7)

    def check(self) -> None:
        need(self.seen.get(self.base["CLOCKS"] + 0x48, 0) >> 11 & 1 == 1, "peripherals without a clock")


CHIPS: dict[str, Any] = {
    "stm32f4": Stm32F4, "stm32f7": Stm32F7, "stm32h7": Stm32H7, "nrf52": Nrf, "esp32c3": Esp32C3, "rp2040": Rp2, "rp2350": Rp2,
}


def chip_of(board: Board, kit: Flash) -> Chip:
    chip: Chip = CHIPS[read_toml(board.file)["soc"]](kit)
    return chip
