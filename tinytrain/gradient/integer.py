# SPDX-License-Identifier: Apache-2.0
"""Builds the integer forms of a training program (`ir/integer.py` says what they are)."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from tinytrain.ir.integer import IntegerForms, Operand, Scaled
from tinytrain.ir.op import Declined, no
from tinytrain.ir.types import S8, Array, Value
from tinytrain.ops.fixed import mantissas, multipliers
from tinytrain.ops.integer_ends import Decode, exponentials, table_bits
from tinytrain.ops.integer_gradient import Rate, Renormalise, ScaledAdd, SgdInteger


class IntegerBuilder(IntegerForms):
    """Emits integer forms; knows renormalised gradients that it has made, and constants that all entry points share."""

    def __init__(self, name: str, taken: Iterable[Value], constants: dict[tuple[str, bytes], Value]) -> None:
        super().__init__(name, [*taken, *constants.values()])
        self._constants = constants
        self._short: dict[Scaled, Scaled] = {}

    def shared(self, name: str, data: Array) -> Value:
        key = (name, data.tobytes())
        if key not in self._constants:
            self._constants[key] = self.const(name, data)
        return self._constants[key]

    def exponent(self, number: int) -> Value:
        return self.shared(f"exponent_{number}".replace("-", "m"), np.array([number], np.int32))

    def whole(self, x: Operand) -> Value:
        if isinstance(x, Value):
            return x
        kind = x.mantissa.type
        assert kind.dtype is S8 and x.exponent.data is not None and x.factor.ndim == 0, f"{x} is made while the program runs"
        zero = kind.quant.zero_point if kind.quant else 0
        scale = np.float32(x.factor * 2.0 ** int(x.exponent.data[0]))
        meanings = (np.arange(-128, 128) - zero).astype(np.float32) * scale
        return self.emit(Decode(), x.mantissa, self.shared("meanings", meanings.view(np.int32)), name=f"{x.mantissa.name}_f32")

    def short(self, x: Scaled, unit: bool = False) -> Scaled:
        if x.mantissa.type.dtype is S8 and x.factor.ndim == 0 and (not unit or x.factor == 1):
            return x
        if x.factor.ndim == 0 and unit:
            return self._renormalised(x, factored=True)
        if x not in self._short:
            self._short[x] = self._renormalised(x, factored=x.factor.ndim > 0)
        return self._short[x]

    def added(self, a: Scaled, b: Scaled, name: str) -> Scaled:
        alike = a.factor.ndim == b.factor.ndim == 0 and a.factor == b.factor
        x, y = self.short(a, unit=not alike), self.short(b, unit=not alike)
        made, e = self.emit_all(ScaledAdd(), x.mantissa, x.exponent, y.mantissa, y.exponent, name=name)
        return Scaled(made, e, x.factor)

    def logits(self, x: Operand) -> tuple[Value, float, int, Value] | Declined:
        if not isinstance(x, Scaled) or x.mantissa.type.dtype is not S8 or x.exponent.data is None or x.factor.ndim:
            return no("its input is not the dequantised output of an int8 layer")
        scale, bits = float(x.factor) * 2.0 ** int(x.exponent.data[0]), table_bits(x.mantissa.shape[-1])
        return x.mantissa, scale, bits, self.shared("exponentials", exponentials(scale, bits))

    def moved(self, w: Value, grad: Operand, factor: Array, lr: Value, seed: int, counter: Value | None) -> Value | Declined:
        if not isinstance(grad, Scaled):
            return no("its gradient is not made of integers")
        if grad.factor.ndim:
            grad = self.short(grad)
        m, s = (self.shared(f"{w.name}_{kind}", data) for kind, data in zip("ms", multipliers(factor * grad.factor), strict=True))
        rate = self.emit_all(Rate(), lr, grad.exponent, m, s, name=f"{w.name}_rate")
        noise = () if counter is None else (counter,)
        within = w.source.within if w.source else ()
        return self.emit(SgdInteger(w.type.dtype, bool(noise), seed, within), grad.mantissa, w, *rate, *noise, name=f"{w.name}_new")

    def _renormalised(self, x: Scaled, factored: bool) -> Scaled:
        name = f"{x.mantissa.name}_s8"
        if not factored:
            y, e = self.emit_all(Renormalise(), x.mantissa, x.exponent, name=name)
            return Scaled(y, e, x.factor)
        m, offset = mantissas(np.broadcast_to(x.factor, x.mantissa.shape[-1:]))
        factors = self.shared(f"{x.mantissa.name}_factor", m)
        y, e = self.emit_all(Renormalise(True, offset), x.mantissa, x.exponent, factors, name=name)
        return Scaled(y, e, np.asarray(1.0))
