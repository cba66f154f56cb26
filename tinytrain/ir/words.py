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

    def add(self, a: str, b: str) -> str: ...

    def sub(self, a: str, b: str) -> str: ...

    def mul(self, a: str, b: str) -> str: ...

    def madd(self, acc: str, a: str, b: str) -> str:
        """acc + a·b"""

    def where(self, x: str, y: str, a: str, b: str) -> str:
        """a where x > y, else b: also where one of them is no number."""

    def type(self, element: str) -> str:
        """Type of what is computed with, from the C type of an element."""

    def read(self, element: str) -> str:
        """The element, or it and its neighbours behind it."""

    def spread(self, element: str) -> str:
        """The element for all lanes."""

    def write(self, element: str, value: str) -> str:
        """Statement."""


class _Plain:
    """One element at a time."""

    def number(self, value: float) -> str:
        return literal(value)

    def add(self, a: str, b: str) -> str:
        return f"{_operand(a)} + {_operand(b)}"

    def sub(self, a: str, b: str) -> str:
        return f"{_operand(a)} - {_operand(b)}"

    def mul(self, a: str, b: str) -> str:
        return f"{_operand(a)} * {_operand(b)}"

    def madd(self, acc: str, a: str, b: str) -> str:
        return f"TT_MADD({acc}, {a}, {b})"

    def where(self, x: str, y: str, a: str, b: str) -> str:
        return f"{_operand(x)} > {_operand(y)} ? {_operand(a)} : {_operand(b)}"

    def type(self, element: str) -> str:
        return element

    def read(self, element: str) -> str:
        return element

    def spread(self, element: str) -> str:
        return element

    def write(self, element: str, value: str) -> str:
        return f"{element} = {value};"


PLAIN: Words = _Plain()


@dataclass(frozen=True)
class Lanes:
    """Functions of `runtime_c/tt_simd_<tag>.h`."""

    tag: str

    def number(self, value: float) -> str:
        return self.spread(literal(value))

    def add(self, a: str, b: str) -> str:
        return f"tt_add_{self.tag}({a}, {b})"

    def sub(self, a: str, b: str) -> str:
        return f"tt_sub_{self.tag}({a}, {b})"

    def mul(self, a: str, b: str) -> str:
        return f"tt_mul_{self.tag}({a}, {b})"

    def madd(self, acc: str, a: str, b: str) -> str:
        return f"tt_madd_lanes_{self.tag}({acc}, {a}, {b})"

    def where(self, x: str, y: str, a: str, b: str) -> str:
        return f"tt_where_{self.tag}({x}, {y}, {a}, {b})"

    def type(self, element: str) -> str:
        return f"tt_v_{self.tag}"

    def read(self, element: str) -> str:
        return f"tt_load_{self.tag}(&{element})"

    def sums(self, acc: str) -> str:
        """A vector of sums that a tile has left from `acc` on."""
        return f"tt_sums_{self.tag}(&{acc})"

    def spread(self, element: str) -> str:
        return f"tt_splat_{self.tag}({element})"

    def write(self, element: str, value: str) -> str:
        return f"tt_store_{self.tag}(&{element}, {value});"


def _operand(text: str) -> str:
    return f"({text})" if " " in text else text
