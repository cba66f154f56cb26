# SPDX-License-Identifier: Apache-2.0
"""The words that an elementwise formula is written in, once: as C they work on one element, or on the lanes of a vector.

Either way each word is rounded by itself. `madd` is one word: its product is fused with the sum on boards whose `fused` says so.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np


def literal(x: float) -> str:
    """The C constant of a number as float: exact, with its suffix. C99 has no literal for infinity, gcc and clang have a builtin."""
    with np.errstate(over="ignore"):
        number = np.float32(x)
    assert np.isinf(number) == math.isinf(x) and not math.isnan(x), f"{x} is no number of fp32"
    if math.isinf(x):
        return "__builtin_inff()" if x > 0 else "-__builtin_inff()"
    text = np.format_float_scientific(number, unique=True, trim="0", exp_digits=1)
    mantissa, exponent = text.split("e")
    return f"{mantissa}f" if int(exponent) == 0 else f"{mantissa}e{int(exponent)}f"


class Words(Protocol):
    """C expressions of C expressions."""

    def number(self, value: float) -> str: ...

    def add(self, a: str, b: str, kind: str = "float") -> str:
        """Of floats or, as `kind` says, of int32."""

    def sub(self, a: str, b: str) -> str: ...

    def mul(self, a: str, b: str, kind: str = "float") -> str:
        """The same."""

    def madd(self, acc: str, a: str, b: str) -> str:
        """acc + a·b"""

    def where(self, x: str, y: str, a: str, b: str, kind: str = "float") -> str:
        """a where x > y, else b: also where one of them is no number; a and b are floats or, as `kind` says, int32."""

    def raised(self, most: str, x: str, kind: str, *also: tuple[str, str]) -> str:
        """Statements: where x > most, both read as `kind`, `most` becomes x; `also` (variable, what it becomes there) are int32."""

    def equal(self, integer: str, number: str, a: str, b: str) -> str:
        """a where the integer is this number, else b."""

    def bits(self, pointer: str, i: str, row: int) -> str:
        """Bit i of an array of bytes, where rows of neighbours have this length."""

    def pick(self, bits: str, a: str, b: str) -> str:
        """a where the bit is set, else b."""

    def random(self, seed: int, counter: str) -> str:
        """A random word, one counter further for each neighbour."""

    def rounded(self, how: str, d: str, limit: float, *word: str) -> str:
        """A float as an integer within ±limit: `nearest`, or `stochastic` by a random word."""

    def moved(self, weight: str, step: str, bound: int, wide: bool) -> str:
        """weight − step within ±bound; `wide`: of int32, of which one beyond is not pulled back."""

    def weighted(self, a: str, ma: int, b: str, mb: int, c: int, shift: int) -> str:
        """(a·ma + b·mb + c) / 2^shift, rounded down."""

    def minus(self, integer: str, number: int) -> str:
        """integer − number"""

    def real(self, integer: str) -> str:
        """The integer as a float."""

    def quantised(self, x: str, scale: float, zero_point: int, low: int, high: int) -> str:
        """x / scale + zero point, rounded, within the bounds of an int8."""

    def requantised(self, x: str, m: str, s: str, zero_point: int, low: int, high: int) -> str:
        """x·m / 2^s + zero point of int32, rounded, within the bounds of an int8; m in [2^30, 2^31), or s at least 33."""

    def within(self, integer: str, low: int, high: int) -> str:
        """The integer within the bounds of an int8."""

    def master_half(self, x: str) -> str:
        """The half of a float's master, as a float."""

    def master(self, half: str, rest: str) -> str:
        """The fp32 number that a half and its rest stand for."""

    def rest(self, x: str, half: str) -> str:
        """What this half leaves out of the master of x, an int16."""

    def drawn_half(self, x: str, word: str) -> str:
        """One of the two halves around a float, by a random word."""

    def narrow(self, integer: str, kind: str) -> str:
        """An integer as an element of this type."""

    def type(self, element: str) -> str:
        """Type of what is computed with, from the C type of an element."""

    def read(self, element: str, kind: str) -> str:
        """The element of this C type, or it and its neighbours behind it; of fp16 the number as a float."""

    def spread(self, element: str, kind: str) -> str:
        """The element for all lanes."""

    def write(self, element: str, value: str, kind: str) -> str:
        """Statement."""


class _Plain:
    """One element at a time."""

    def number(self, value: float) -> str:
        return literal(value)

    def add(self, a: str, b: str, kind: str = "float") -> str:
        return f"{_operand(a)} + {_operand(b)}"

    def sub(self, a: str, b: str) -> str:
        return f"{_operand(a)} - {_operand(b)}"

    def mul(self, a: str, b: str, kind: str = "float") -> str:
        return f"{_operand(a)} * {_operand(b)}"

    def madd(self, acc: str, a: str, b: str) -> str:
        return f"TT_MADD({acc}, {a}, {b})"

    def where(self, x: str, y: str, a: str, b: str, kind: str = "float") -> str:
        return f"{_operand(x)} > {_operand(y)} ? {_operand(a)} : {_operand(b)}"

    def raised(self, most: str, x: str, kind: str, *also: tuple[str, str]) -> str:
        return "\n".join([f"if ({x} > {most}) {{", *(f"{name} = {value};" for name, value in ((most, x), *also)), "}"])

    def equal(self, integer: str, number: str, a: str, b: str) -> str:
        return f"{_operand(integer)} == {_operand(number)} ? {_operand(a)} : {_operand(b)}"

    def bits(self, pointer: str, i: str, row: int) -> str:
        return f"({pointer}[({i}) >> 3] >> (({i}) & 7)) & 1"

    def pick(self, bits: str, a: str, b: str) -> str:
        return f"{bits} ? {_operand(a)} : {_operand(b)}"

    def random(self, seed: int, counter: str) -> str:
        return f"tt_random(UINT32_C({seed}), {counter})"

    def rounded(self, how: str, d: str, limit: float, *word: str) -> str:
        return f"tt_round_{how}({', '.join((d, literal(limit), *word))})"

    def moved(self, weight: str, step: str, bound: int, wide: bool) -> str:
        return f"(int32_t)tt_moved_wide({weight}, {step}, {bound}LL)" if wide else f"(int8_t)tt_moved({weight}, {step}, {bound})"

    def weighted(self, a: str, ma: int, b: str, mb: int, c: int, shift: int) -> str:
        return f"({_operand(a)} * {ma} + {_operand(b)} * {mb} + {c}) >> {shift}"

    def minus(self, integer: str, number: int) -> str:
        return f"{integer} {'-' if number > 0 else '+'} {abs(number)}" if number else integer

    def real(self, integer: str) -> str:
        return f"(float){_operand(integer)}"

    def quantised(self, x: str, scale: float, zero_point: int, low: int, high: int) -> str:
        return f"(int8_t)tt_quantise({x}, {literal(scale)}, {zero_point}, {low}, {high})"

    def requantised(self, x: str, m: str, s: str, zero_point: int, low: int, high: int) -> str:
        return f"(int8_t)tt_requantise({x}, {m}, {s}, {zero_point}, {low}, {high})"

    def within(self, integer: str, low: int, high: int) -> str:
        return f"(int8_t)tt_clamp({integer}, {low}, {high})"

    def master_half(self, x: str) -> str:
        return f"tt_master_half({x})"

    def master(self, half: str, rest: str) -> str:
        return f"tt_master({half}, {rest})"

    def rest(self, x: str, half: str) -> str:
        return f"tt_rest({x}, {half})"

    def drawn_half(self, x: str, word: str) -> str:
        return f"tt_half_stochastic({x}, {word})"

    def narrow(self, integer: str, kind: str) -> str:
        return f"({kind}){_operand(integer)}"

    def type(self, element: str) -> str:
        return element

    def read(self, element: str, kind: str) -> str:
        return f"tt_half_to_float({element})" if kind == "tt_half" else element

    def spread(self, element: str, kind: str) -> str:
        return self.read(element, kind)

    def write(self, element: str, value: str, kind: str) -> str:
        return f"{element} = {f'tt_float_to_half({value})' if kind == 'tt_half' else value};"


PLAIN: Words = _Plain()


# how elements of a type are loaded, stored, and spread
_WORD = {
    "float": ("load", "store", "splat"), "tt_half": ("load_half", "store_half", "splat"),
    "int32_t": ("i_load", "i_store", "i_all"), "int8_t": ("i_load_s8", "i_store_s8", "i_all"),
    "uint8_t": ("i_load_u8", "i_store_u8", "i_all"), "int16_t": ("i_load_s16", "i_store_s16", "i_all"),
}


@dataclass(frozen=True)
class Lanes:
    """Functions of `runtime_c/tt_simd_<tag>.h`."""

    tag: str

    def number(self, value: float) -> str:
        return self.spread(literal(value), "float")

    def add(self, a: str, b: str, kind: str = "float") -> str:
        return f"tt_{'' if kind == 'float' else 'i_'}add_{self.tag}({a}, {b})"

    def sub(self, a: str, b: str) -> str:
        return f"tt_sub_{self.tag}({a}, {b})"

    def mul(self, a: str, b: str, kind: str = "float") -> str:
        return f"tt_{'' if kind == 'float' else 'i_'}mul_{self.tag}({a}, {b})"

    def madd(self, acc: str, a: str, b: str) -> str:
        return f"tt_madd_lanes_{self.tag}({acc}, {a}, {b})"

    def where(self, x: str, y: str, a: str, b: str, kind: str = "float") -> str:
        return f"tt_{'' if kind == 'float' else 'i_'}where_{self.tag}({x}, {y}, {a}, {b})"

    def raised(self, most: str, x: str, kind: str, *also: tuple[str, str]) -> str:
        chosen, also_chosen = ("where", "i_where") if kind == "float" else ("i_more", "i_more")
        made = [*((name, self.spread(value, "int32_t"), also_chosen) for name, value in also), (most, x, chosen)]
        return "\n".join(f"{name} = tt_{word}_{self.tag}({x}, {most}, {value}, {name});" for name, value, word in made)

    def equal(self, integer: str, number: str, a: str, b: str) -> str:
        return f"tt_equal_{self.tag}({integer}, {number}, {a}, {b})"

    def bits(self, pointer: str, i: str, row: int) -> str:
        return f"tt_i_bits_{self.tag}({pointer}, {i}, {row})"

    def pick(self, bits: str, a: str, b: str) -> str:
        return f"tt_pick_{self.tag}({bits}, {a}, {b})"

    def random(self, seed: int, counter: str) -> str:
        return f"tt_i_random_{self.tag}(UINT32_C({seed}), {counter})"

    def rounded(self, how: str, d: str, limit: float, *word: str) -> str:
        return f"tt_i_{how}_{self.tag}({', '.join((d, literal(limit), *word))})"

    def moved(self, weight: str, step: str, bound: int, wide: bool) -> str:
        return f"tt_i_moved{'_wide' if wide else ''}_{self.tag}({weight}, {step}, {bound})"

    def weighted(self, a: str, ma: int, b: str, mb: int, c: int, shift: int) -> str:
        return f"tt_i_weighted_{self.tag}({a}, {ma}, {b}, {mb}, {c}, {shift})"

    def minus(self, integer: str, number: int) -> str:
        return self.add(integer, self.spread(str(-number), "int32_t"), "int32_t") if number else integer

    def real(self, integer: str) -> str:
        return f"tt_real_{self.tag}({integer})"

    def quantised(self, x: str, scale: float, zero_point: int, low: int, high: int) -> str:
        return f"tt_i_quantise_{self.tag}({x}, {literal(scale)}, {zero_point}, {low}, {high})"

    def requantised(self, x: str, m: str, s: str, zero_point: int, low: int, high: int) -> str:
        return f"tt_i_requantise_{self.tag}({x}, {m}, {s}, {zero_point}, {low}, {high})"

    def within(self, integer: str, low: int, high: int) -> str:
        return f"tt_i_within_{self.tag}({integer}, {low}, {high})"

    def master_half(self, x: str) -> str:
        return f"tt_master_half_{self.tag}({x})"

    def master(self, half: str, rest: str) -> str:
        return f"tt_master_{self.tag}({half}, {rest})"

    def rest(self, x: str, half: str) -> str:
        return f"tt_i_rest_{self.tag}({x}, {half})"

    def drawn_half(self, x: str, word: str) -> str:
        return f"tt_half_stochastic_{self.tag}({x}, {word})"

    def narrow(self, integer: str, kind: str) -> str:
        return integer

    def type(self, element: str) -> str:
        return f"tt_{'v' if element == 'float' else 'i'}_{self.tag}"

    def read(self, element: str, kind: str) -> str:
        return f"tt_{_WORD[kind][0]}_{self.tag}(&{element})"

    def sums(self, acc: str, kind: str) -> str:
        """A vector of sums that a tile has left from `acc` on."""
        return f"tt_sums_{self.tag}(&{acc})" if kind == "float" else self.read(acc, kind)

    def spread(self, element: str, kind: str) -> str:
        return f"tt_{_WORD[kind][2]}_{self.tag}({PLAIN.read(element, kind)})"

    def write(self, element: str, value: str, kind: str) -> str:
        return f"tt_{_WORD[kind][1]}_{self.tag}(&{element}, {value});"


def _operand(text: str) -> str:
    return f"({text})" if " " in text else text
