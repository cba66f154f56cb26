# SPDX-License-Identifier: Apache-2.0
"""How the work of a kernel is split over the cores of a board: who does what, and the C that sets them to it."""

from __future__ import annotations

from collections.abc import Sequence

from tinytrain.ir.op import Kernel, Op
from tinytrain.ir.types import TensorType

_LEAST_WORK = 2048                                        # products and elements; to fork and to join take some hundred instructions


def worth_forking(kernel: Kernel, op: Op, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> bool:
    """Whether several cores do it sooner than one."""
    return kernel.shared and op.cost(*(t.computed for t in inputs)).macs + sum(t.numel for t in (*inputs, *outputs)) >= _LEAST_WORK


def own(count: int, unit: int, start: int, cores: int) -> tuple[str, str]:
    """C of the first and of the one behind the last, of `count` from `start` on, that `core` of `cores` does, in whole units."""
    if cores == 1:
        return str(start), str(start + count)
    units = -(-count // unit)

    def bound(core: str) -> str:
        at = f"{core} * {units // cores}" if units % cores == 0 else f"{core} * {units} / {cores}"
        return (f"{start} + " if start else "") + (f"{at} * {unit}" if unit > 1 else at)

    end = bound("(core + 1)")
    return bound("core"), end if count % unit == 0 else f"(core + 1 < {cores} ? {end} : {start + count})"


def forked(symbol: str, slice_: str, parameters: Sequence[tuple[str, str]]) -> str:
    """C of a function that all cores run `slice_` for, with its parameters (type, name), which one struct hands to them."""
    given = "".join(f"{kind}{name};\n" for kind, name in parameters)
    passed = ", ".join(f"a->{name}" for _, name in parameters)
    names = ", ".join(name for _, name in parameters)
    return f"""
typedef struct {{
{given}}} {symbol}_arguments;

static void {symbol}_work(const void *arguments, int32_t core)
{{
const {symbol}_arguments *const a = (const {symbol}_arguments *)arguments;
{slice_}({passed}, core);
}}

static void {symbol}({", ".join(kind + name for kind, name in parameters)})
{{
const {symbol}_arguments arguments = {{ {names} }};
tt_port_fork({symbol}_work, &arguments);
}}
"""
