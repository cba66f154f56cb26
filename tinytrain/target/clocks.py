# SPDX-License-Identifier: Apache-2.0
"""`clock = {...}` and `uart = {...}` of a board → macros of C, by what soc.toml says about the chip's PLL, buses, units and pins.

The C of a chip only writes what was worked out here into registers.
"""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tinytrain.errors import BoardError
from tinytrain.target.table import Table

_BAUD = 115_200
_BAUD_ERROR = 0.02                                        # of the rate that a divider gives: receivers take a little more
_DIVIDERS = (1, 2, 4, 8, 16)                              # of buses


@dataclass(frozen=True)
class Pll:
    """hz = source / m * n / p. `m`, `n` and `p` are the factors that there are, the others (least, most) in Hz."""

    input_hz: tuple[int, int]
    vco_hz: tuple[int, int]
    m: Sequence[int]
    n: Sequence[int]
    p: Sequence[int]

    def factors(self, source_hz: int) -> Iterable[tuple[int, int, int, int]]:
        """All (m, n, p, hz) within limits: those with the fastest input, which jitters least, come first."""
        for m in self.m:
            if not self.input_hz[0] * m <= source_hz <= self.input_hz[1] * m:
                continue
            for p, n in itertools.product(self.p, self.n):
                vco, rest = divmod(source_hz * n, m)
                if self.vco_hz[0] <= vco <= self.vco_hz[1] and not rest and vco % p == 0:
                    yield m, n, p, vco // p


def clock_defines(clock: Table, buses: Table) -> dict[str, int]:
    """Macros for the clocks; none where the chip has no [clock]. Raises BoardError where the chip cannot run at that rate."""
    if not clock:
        return {}
    reset_hz, most_hz, wait_hz = clock.number("reset_hz"), clock.number("most_hz"), clock.number("wait_hz", 0)
    crystal, source, hse_hz = clock.pair("crystal_hz"), clock.text("source", ""), clock.number("hse_hz", 0)
    hz, pll, sources = clock.number("sysclk_hz", reset_hz), _pll(clock.table("pll")), clock.texts("sources")
    clock.refuse_unread()
    where = f"{clock.path}: clock"
    defines = {"TT_RESET_HZ": reset_hz, "TT_CLOCK_HZ": hz}
    if hz > most_hz:
        raise BoardError(f"{where}.sysclk_hz is {hz:,}; the chip runs at {most_hz:,} Hz at most.", hint="Give a lower rate.")
    if source or hz != reset_hz:
        if pll is None or source not in sources:
            known = f"expected one of {', '.join(sources)}" if sources else f"the chip runs at {reset_hz:,} Hz only"
            raise BoardError(f"{where}.source is {source!r}; {known}.", hint="Or leave `clock` out: the chip then runs as after reset.")
        source_hz = reset_hz if source == "hsi" else hse_hz
        if source != "hsi" and not crystal[0] <= hse_hz <= crystal[1]:
            message = f"{where}.hse_hz is {hse_hz:,}, expected {crystal[0]:,} to {crystal[1]:,}."
            raise BoardError(message, hint="It is the rate of the board's crystal, or of what feeds the chip in place of one.")
        m, n, p = _solved(pll, source_hz, hz, where)
        defines |= {f"TT_CLOCK_FROM_{source.upper()}": 1, "TT_PLL_M": m, "TT_PLL_N": n, "TT_PLL_P": p}
    rates = bus_rates(hz, buses)
    if wait_hz:                                           # of the bus that the flash is on, where that may be slower than the processor
        defines["TT_FLASH_WAIT"] = (rates.get("ahb", hz) - 1) // wait_hz
    return defines | {f"TT_{bus.upper()}_DIV": hz // rate for bus, rate in rates.items()}


def bus_rates(hz: int, buses: Table) -> dict[str, int]:
    """Bus → Hz: each as fast as it may be, by a power of two below the processor's clock."""
    return {bus: next(hz // by for by in _DIVIDERS if hz <= by * table.number("most_hz")) for bus, table in buses.tables().items()}


def uart_defines(uart: Table, units: Table, ports: Table, buses: Table, hz: int) -> dict[str, int]:
    """Macros for the serial port; none where neither board nor chip says anything. Raises BoardError with what the chip has."""
    baud = uart.number("baud", _BAUD)
    places = ports.all_numbers()
    known = {
        name: (unit.number("base"), unit.number("irq"), unit.text("bus", ""), unit.numbers("enable"), unit.table("tx").all_numbers(),
               unit.table("rx").all_numbers())
        for name, unit in units.tables().items()
    }
    if not uart:
        return {}
    where = f"{uart.path}: uart"
    name, wanted = uart.text("unit"), {way: uart.text(way) for way in ("tx", "rx")}
    uart.refuse_unread()
    if name not in known:
        raise BoardError(f"{where}.unit is {name!r}; the chip has {', '.join(known)}.", hint=_near(name, known))
    base, irq, bus, enable, tx, rx = known[name]
    clock_hz = bus_rates(hz, buses).get(bus, hz)
    got = clock_hz / max(1, round(clock_hz / baud)) if baud > 0 else 0.0
    if baud <= 0 or abs(got / baud - 1) > _BAUD_ERROR:
        raise BoardError(f"{where}.baud is {baud:,}; a divider of {clock_hz:,} Hz gives {got:,.0f} at best.", hint="115200 is usual.")
    defines = {"TT_UART_BASE": base, "TT_UART_IRQ": irq, "TT_UART_BAUD": baud, "TT_UART_CLOCK_HZ": clock_hz}
    if enable:
        defines |= dict(zip(("TT_UART_ENABLE", "TT_UART_ENABLE_BIT"), enable, strict=True))
    for way, pins in (("tx", tx), ("rx", rx)):
        pin = wanted[way]
        if pins and pin not in pins:
            raise BoardError(f"{where}.{way} is {pin!r}; {way} of {name} is on {', '.join(pins)}.", hint=_near(pin, pins))
        port, number = _pin(pin, places, f"{where}.{way}")
        defines |= {f"TT_UART_{way.upper()}_{what}": value
                    for what, value in (("PORT", places[port]), ("PIN", number), ("FUNCTION", pins.get(pin, 0)))}
    return defines


def _pll(table: Table) -> Pll | None:
    if not table:
        return None
    m, n, p = (_factors(table.numbers(key)) for key in "mnp")
    return Pll(table.pair("input_hz"), table.pair("vco_hz"), m, n, p)


def _factors(given: Sequence[int]) -> Sequence[int]:
    """[least, most] or [least, most, step]."""
    least, most, step = (*given, 1)[:3]
    return range(least, most + 1, step)


def _solved(pll: Pll, source_hz: int, hz: int, where: str) -> tuple[int, int, int]:
    best = 0
    for m, n, p, found in pll.factors(source_hz):
        if found == hz:
            return m, n, p
        best = max(best, found if found < hz else 0)
    nearest = f"; {best:,} Hz is the nearest below" if best else ""
    message = f"{where}.sysclk_hz is {hz:,}, which the PLL does not make of {source_hz:,} Hz{nearest}."
    raise BoardError(message, hint="Give another sysclk_hz, or another source.")


def _pin(pin: str, ports: dict[str, int], where: str) -> tuple[str, int]:
    """`PA2`, `P0.06` or `GPIO1` as port and number."""
    for port in sorted(ports, key=len, reverse=True):
        number = pin.removeprefix(port).removeprefix(".")
        if pin.startswith(port) and number.isdecimal() and int(number) < 32:
            return port, int(number)
    raise BoardError(f"{where} is {pin!r}; expected a pin of {', '.join(ports)}, as {next(iter(ports), '')}2.", hint="Correct the pin.")


def _near(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, [*known], 1, 0.3)
    return f"Did you mean {near[0]}?" if near else "Correct it in the board's file."
