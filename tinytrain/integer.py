# SPDX-License-Identifier: Apache-2.0
"""What stands for an fp32 value where nothing may compute with floats, and how ops make it: the two common rules.

real = mantissa·2^exponent·factor: the mantissa is a tensor s8 or s32, the exponent is found when the program runs, the factor is
known to the compiler (one, or one per channel) and is multiplied in where that costs nothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from tinytrain.ir.builder import Builder
from tinytrain.ir.op import Declined, Op, no
from tinytrain.ir.types import S8, Array, Value
from tinytrain.ops.fixed import mantissas, multipliers
from tinytrain.ops.integer_ends import Decode, exponentials, table_bits
from tinytrain.ops.integer_gradient import Rate, Renormalise, ScaledAdd, SgdInteger

INT32_MAX = 2**31 - 1


@dataclass(frozen=True, eq=False)
class Scaled:
    """An fp32 value as integers. `factor` is a float64 array of shape () or (C,)."""

    mantissa: Value
    exponent: Value
    factor: Array

    def times(self, factor: Array | float) -> Scaled:
        """Multiplied by constants, one or one per channel; equal ones count as one."""
        product = self.factor * np.asarray(factor, np.float64)
        same = product.ndim and bool((product == product.flat[0]).all())
        return dataclasses.replace(self, factor=np.asarray(product.flat[0]) if same else product)


Operand = Value | Scaled


class IntegerBuilder(Builder):
    """Emits integer forms; knows renormalised gradients that it has made, and constants that all entry points share."""

    def __init__(self, name: str, taken: Iterable[Value], constants: dict[tuple[str, bytes], Value]) -> None:
        super().__init__(name, [*taken, *constants.values()])
        self._constants = constants
        self._short: dict[Scaled, Scaled] = {}

    def shared(self, name: str, data: Array) -> Value:
        """A constant; the same one wherever name and data are the same."""
        key = (name, data.tobytes())
        if key not in self._constants:
            self._constants[key] = self.const(name, data)
        return self._constants[key]

    def exponent(self, number: int) -> Value:
        """A constant exponent."""
        return self.shared(f"exponent_{number}".replace("-", "m"), np.array([number], np.int32))

    def whole(self, x: Operand) -> Value:
        """The fp32 tensor itself, for the caller of an entry point: an int8 value by the table of its 256 meanings."""
        if isinstance(x, Value):
            return x
        kind = x.mantissa.type
        assert kind.dtype is S8 and x.exponent.data is not None and x.factor.ndim == 0, f"{x} is made while the program runs"
        zero = kind.quant.zero_point if kind.quant else 0
        scale = np.float32(x.factor * 2.0 ** int(x.exponent.data[0]))
        meanings = (np.arange(-128, 128) - zero).astype(np.float32) * scale
        return self.emit(Decode(), x.mantissa, self.shared("meanings", meanings.view(np.int32)), name=f"{x.mantissa.name}_f32")

    def short(self, x: Scaled, unit: bool = False) -> Scaled:
        """The same in eight bits with at most one factor; with `unit`, none."""
        if x.mantissa.type.dtype is S8 and x.factor.ndim == 0 and (not unit or x.factor == 1):
            return x
        if x.factor.ndim == 0 and unit:
            return self._renormalised(x, factored=True)
        if x not in self._short:
            self._short[x] = self._renormalised(x, factored=x.factor.ndim > 0)
        return self._short[x]

    def added(self, a: Scaled, b: Scaled, name: str) -> Scaled:
        """a + b; both in eight bits first, so that one shift brings them to a common exponent."""
        alike = a.factor.ndim == b.factor.ndim == 0 and a.factor == b.factor
        x, y = self.short(a, unit=not alike), self.short(b, unit=not alike)
        made, e = self.emit_all(ScaledAdd(), x.mantissa, x.exponent, y.mantissa, y.exponent, name=name)
        return Scaled(made, e, x.factor)

    def logits(self, x: Operand) -> tuple[Value, float, int, Value] | Declined:
        """int8 values that a softmax along the last axis takes, their scale, the bits of their table and the table."""
        if not isinstance(x, Scaled) or x.mantissa.type.dtype is not S8 or x.exponent.data is None or x.factor.ndim:
            return no("its input is not the dequantised output of an int8 layer")
        scale, bits = float(x.factor) * 2.0 ** int(x.exponent.data[0]), table_bits(x.mantissa.shape[-1])
        return x.mantissa, scale, bits, self.shared("exponentials", exponentials(scale, bits))

    def moved(self, w: Value, grad: Operand, factor: Array, lr: Value, seed: int, counter: Value | None) -> Value | Declined:
        """w − lr·factor·grad in the integers of w (s8, or s32 of a bias); rounded at random with a counter, else to nearest.

        `factor` is one number, one per row (K, 1, …), or one per channel.
        """
        if not isinstance(grad, Scaled):
            return no("its gradient is not made of integers")
        if grad.factor.ndim:
            grad = self.short(grad)
        m, s = (self.shared(f"{w.name}_{kind}", data) for kind, data in zip("ms", multipliers(factor * grad.factor), strict=True))
        rate = self.emit_all(Rate(), lr, grad.exponent, m, s, name=f"{w.name}_rate")
        noise = () if counter is None else (counter,)
        return self.emit(SgdInteger(w.type.dtype, bool(noise), seed), grad.mantissa, w, *rate, *noise, name=f"{w.name}_new")

    def _renormalised(self, x: Scaled, factored: bool) -> Scaled:
        name = f"{x.mantissa.name}_s8"
        if not factored:
            y, e = self.emit_all(Renormalise(), x.mantissa, x.exponent, name=name)
            return Scaled(y, e, x.factor)
        m, offset = mantissas(np.broadcast_to(x.factor, x.mantissa.shape[-1:]))
        factors = self.shared(f"{x.mantissa.name}_factor", m)
        y, e = self.emit_all(Renormalise(True, offset), x.mantissa, x.exponent, factors, name=name)
        return Scaled(y, e, np.asarray(1.0))


def sums(op: Op, g: IntegerBuilder, inputs: Sequence[Operand], outputs: Sequence[Value]) -> tuple[Operand, ...] | Declined:
    """Of an op that is linear in input 0 and adds up products: eight bits go in, int32 comes out, with the same exponent."""
    dy, *others = inputs
    if not isinstance(dy, Scaled) or any(isinstance(v, Scaled) for v in others):
        return no(f"{op.name} is linear in its first operand only")
    kinds = [v.type for v in (dy.mantissa, *others) if isinstance(v, Value)]
    terms = max(op.cost(*kinds).macs, kinds[0].numel) // outputs[0].type.numel
    if terms * 127 * 255 > INT32_MAX:
        return no(f"{terms:,} products of int8 could overflow an int32 sum")
    short = g.short(dy)
    made = g.emit(op, short.mantissa, *(v for v in others if isinstance(v, Value)), name=outputs[0].name)
    return (dataclasses.replace(short, mantissa=made),)


def moves(op: Op, g: IntegerBuilder, inputs: Sequence[Operand], outputs: Sequence[Value]) -> tuple[Operand, ...] | Declined:
    """Of an op that only moves, repeats or leaves out elements of input 0."""
    x, *others = inputs
    if not isinstance(x, Scaled) or any(isinstance(v, Scaled) for v in others):
        return no(f"{op.name} moves its first operand only")
    if x.factor.ndim:
        x = g.short(x)                                    # channels need not stay where they are
    made = g.emit(op, x.mantissa, *(v for v in others if isinstance(v, Value)), name=outputs[0].name)
    return (dataclasses.replace(x, mantissa=made),)
