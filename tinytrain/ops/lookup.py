# SPDX-License-Identifier: Apache-2.0
"""Any function of one int8 number as a table of all 256, in flash:

lookup: y = table[x + 128], table[i] = clamp(z + round(f(sx·(i − 128 − zx)) / s));  dx = dy·slopes[x + 128], slopes = sx/s·f′ inside

f is made of ops that compute in fp32 elsewhere, whatever they are. Tables are computed in float64, of reals as fp32 has them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tinytrain.ir.builder import Builder
from tinytrain.ir.integer import IntegerForms, Operand, Scaled
from tinytrain.ir.op import Declined, Elementwise, Example, Kernel, Tie, Want, Wanted, no
from tinytrain.ir.types import F32, S8, Array, Quant, TensorType, Value
from tinytrain.ops.activation import LeakyRelu, Sigmoid, Tanh
from tinytrain.ops.elementwise import Mul, Scale
from tinytrain.ops.gate import Gelu, HardSwish
from tinytrain.ops.integer_arith import SLOPE_BITS, SlopeInteger
from tinytrain.ops.quantize import HIGH, LOW, Quantise, Stored, checked_scale

_TABLE = TensorType((256,), S8)
_SLOPES = TensorType((256,), F32)


@dataclass(frozen=True)
class Formula:
    """f(x) in steps, each an op and what it takes: 0 is x, n what step n has made; a float is that number."""

    steps: tuple[tuple[Elementwise, tuple[int | float, ...]], ...]

    def __repr__(self) -> str:
        return "; ".join(f"{op.name} {', '.join(map(repr, operands))}" for op, operands in self.steps)

    def values(self, x: Array) -> tuple[Array, Array]:
        """f and f′ at each x, float64. What is no number is left so."""
        made, slopes = [x], [np.ones_like(x)]
        for op, operands in self.steps:
            arrays = [made[one] if isinstance(one, int) else np.array([one]) for one in operands]
            g = Builder(op.name)
            inputs = [g.input("operand", array.shape) for array in arrays]
            outputs, dy = g.emit_all(op, *inputs), g.input("dy", x.shape)
            parts = op.vjp(g, inputs, outputs, (dy,), tuple(Want() if isinstance(one, int) else None for one in operands))
            live = dict(zip((*inputs, dy), (*arrays, np.ones_like(x)), strict=True))
            with np.errstate(all="ignore"):
                for node in g.nodes:
                    given = [live[v] if v.data is None else v.data for v in node.inputs]
                    live.update(zip(node.outputs, node.op.reference(*given), strict=True))
                flows = [live[part] * slopes[one] for part, one in zip(parts, operands, strict=True) if part and isinstance(one, int)]
                slopes.append(np.sum(flows, axis=0))
            made.append(live[outputs[0]])
        return made[-1], slopes[-1]


@dataclass(frozen=True)
class Lookup(Stored):
    """x s8 of `scale_in` and `zero_in`, table s8[256] -> y s8."""

    of: Formula = Formula(((Sigmoid(), (0,)),))
    scale_in: float = 1.0
    zero_in: int = 0

    name = "lookup"
    args = ("x", "table")
    kernels = (Kernel("elementwise", (S8,), macro="elementwise"),)

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        x, table = types
        checked_scale(self.scale_in)
        if (table.shape, table.dtype) != (_TABLE.shape, S8) or (x.quant and x.quant != Quant((self.scale_in,), self.zero_in)):
            raise ValueError(f"x {x} of {x.quant} and table {table} for scale {self.scale_in}, zero point {self.zero_in} and {_TABLE}")
        return (self.stored(x.shape),)

    def _values(self, q: Array) -> tuple[Array, Array]:
        reals = (q - q.dtype.type(self.zero_in)) * q.dtype.type(np.float32(self.scale_in))
        return self.of.values(reals.astype(np.float64))

    def _every(self) -> tuple[Array, Array]:
        return self._values(np.arange(LOW, HIGH + 1, dtype=np.float32))

    def table(self) -> Array:
        """f for each x from -128 on; a half is rounded to the even neighbour."""
        return np.asarray(Quantise(self.scale, self.zero_point, self.low, self.high).reference(self._every()[0])[0])

    def slopes(self) -> Array:
        """dy/dx of stored numbers for each x from -128 on; where there is none, as of a root at 0, it is 0."""
        y, slope = self.table(), self._every()[1] * (self.scale_in / self.scale)
        return np.where((y > self.low) & (y < self.high) & np.isfinite(slope), slope, 0.0).astype(np.float32)

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        x, table = arrays
        return (table[x.astype(np.int64) - LOW],)

    def smooth(self, *arrays: Array) -> tuple[Array, ...]:
        return self.real(self._values(arrays[0])[0] / self.scale)

    def ties(self, *types: TensorType) -> tuple[Tie, ...]:
        return super().ties(types[0])                     # the table has no channels

    def load(self, operand: int, pointer: str, i: str, c: str, types: Sequence[TensorType]) -> tuple[str, str]:
        return ("int8_t *", pointer) if operand == 1 else super().load(operand, pointer, i, c, types)

    def expr(self, *operands: str) -> tuple[str, ...]:
        x, table = operands
        return (f"{table}[{x} + 128]",)

    @property
    def inplace(self) -> tuple[tuple[int, int], ...]:
        return ((0, 0),)

    def vjp(
        self, g: Builder, inputs: Sequence[Value], outputs: Sequence[Value], grads: Sequence[Value | None], wanted: Wanted
    ) -> tuple[Value | None, ...]:
        (x, table), dy = inputs, grads[0]
        assert dy is not None
        slopes = g.const(f"{table.name}_slopes", self.slopes())
        return g.emit(LookupGrad(), dy, x, slopes, name=f"d_{x.name}"), None


@dataclass(frozen=True)
class LookupGrad(Elementwise):
    """dy f32, x s8 alike, slopes f32[256] -> dy·slopes[x + 128]."""

    name = "lookup_grad"
    args = ("dy", "x", "slopes")
    results = ("dx",)
    tables = frozenset({2})
    kernels = (Kernel("elementwise", (F32, S8, F32), macro="elementwise"),)

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        dy, x, slopes = types
        if dy.shape != x.shape or slopes != _SLOPES:
            raise ValueError(f"dy {dy}, x {x}, slopes {slopes}")
        return (dy,)

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        dy, x, slopes = arrays
        return (dy * slopes[x.astype(np.int64) - LOW],)

    def load(self, operand: int, pointer: str, i: str, c: str, types: Sequence[TensorType]) -> tuple[str, str]:
        return ("float *", pointer) if operand == 2 else super().load(operand, pointer, i, c, types)

    def expr(self, *operands: str) -> tuple[str, ...]:
        dy, x, slopes = operands
        return (f"{dy} * {slopes}[{x} + 128]",)

    def as_integer(
        self, g: IntegerForms, inputs: Sequence[Operand], outputs: Sequence[Value]
    ) -> tuple[Operand, ...] | Declined:
        dy, x, slopes = inputs
        if not isinstance(dy, Scaled) or isinstance(x, Scaled) or isinstance(slopes, Scaled) or slopes.data is None:
            return no("its table of slopes is no constant")
        short = g.short(dy)
        unit = max(float(np.abs(slopes.data).max()), 1e-30) / 2**SLOPE_BITS
        table = g.shared(f"{slopes.name}_integer", np.rint(slopes.data.astype(np.float64) / unit).astype(np.int32))
        made = g.emit(SlopeInteger(), short.mantissa, x, table, name=outputs[0].name)
        return (dataclasses.replace(short, mantissa=made).times(unit),)

    @property
    def inplace(self) -> tuple[tuple[int, int], ...]:
        return ((0, 0),)


_SILU = Formula(((Sigmoid(), (0,)), (Mul(), (0, 1))))
Lookup.examples = tuple(
    Example(
        Lookup(s, z, of=of, scale_in=sx, zero_in=zx), (TensorType(shape, S8, Quant((sx,), zx)), _TABLE), (-128, 128)
    )
    for shape, of, s, z, sx, zx in (
        ((1,), Formula(((Sigmoid(), (0,)),)), 2**-8, -128, 0.06, 3), ((17,), Formula(((Tanh(), (0,)),)), 2**-7, 0, 0.03, -20),
        ((3, 5, 2), Formula(((HardSwish(), (0,)),)), 0.03, -110, 0.041, 10), ((256,), _SILU, 0.05, -118, 0.05, 0),
        ((9,), Formula(((Gelu(), (0,)),)), 0.04, -120, 0.05, 0),
        ((40,), Formula(((Scale(0.5), (0,)), (LeakyRelu(0.2), (1,)), (Mul(), (2, 3.0)))), 0.02, -30, 0.02, 1),
    )
)
LookupGrad.examples = tuple(
    Example(LookupGrad(), (TensorType(shape), TensorType(shape, S8), _SLOPES), (-128, 128)) for shape in ((1,), (17,), (4, 2, 3))
)
