# SPDX-License-Identifier: Apache-2.0
"""select: y = a where a bit is set, else b;  da = dy where it is set, else 0;  db = dy where it is not, else 0

What is not taken leaves no trace, whatever it is: no product with 0 is made. Bits as `pass_bits` has them (ops/activation.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tinytrain.ir.builder import Builder
from tinytrain.ir.op import Elementwise, Example, Wanted, f32, is_row_operand
from tinytrain.ir.types import F32, U8, Array, TensorType, Value
from tinytrain.ir.words import PLAIN, Words
from tinytrain.ops.activation import MaskGrad
from tinytrain.ops.elementwise import reduced
from tinytrain.ops.simd import elementwise


def packed(mask: Array) -> Array:
    """A mask as bits."""
    return np.packbits(mask.reshape(-1), bitorder="little")


@dataclass(frozen=True)
class Select(Elementwise):
    """a, b (like a, (C,), (K, 1, …) or one element), bits u8[ceil(n/8)] -> like a. ONNX Where, Trilu."""

    name = "select"
    args = ("a", "b", "bits")
    differentiable = True
    kernels = elementwise(F32, F32, U8)

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        a, b, bits = types
        if not (b.shape in (a.shape, a.shape[-1:]) or b.numel == 1 or is_row_operand(b, a)):
            raise ValueError(f"b {b.shape} against a {a.shape}: the same shape, one per channel, one per row, or one element is expected")
        if bits != TensorType(((a.numel + 7) // 8,), U8):
            raise ValueError(f"{bits} is no bit mask of {a}")
        return (a,)

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        a, b, bits = arrays
        taken = np.unpackbits(bits, count=a.size, bitorder="little").astype(bool).reshape(a.shape)
        return (np.where(taken, a, b.reshape(()) if b.size == 1 else b).astype(a.dtype),)

    def derived(self, w: Words, operand: int, pointer: str, i: str, whole: TensorType) -> tuple[str, str] | None:
        return ("int32_t", w.bits(pointer, i, whole.shape[-1] if whole.shape else 1)) if operand == 2 else None

    def lanes(self, w: Words, *operands: str) -> tuple[str, ...]:
        a, b, bit = operands
        return (w.pick(bit, a, b),)

    @property
    def inplace(self) -> tuple[tuple[int, int], ...]:
        return ((0, 0), (1, 0))

    def vjp(
        self, g: Builder, inputs: Sequence[Value], outputs: Sequence[Value], grads: Sequence[Value | None], wanted: Wanted
    ) -> tuple[Value | None, ...]:
        (a, b, bits), dy = inputs, grads[0]
        assert dy is not None
        da = g.emit(MaskGrad(), dy, bits, name=f"d_{a.name}") if wanted[0] else None
        return da, reduced(g, g.emit(RestGrad(), dy, bits, name=f"d_{b.name}"), b) if wanted[1] else None, None


@dataclass(frozen=True)
class RestGrad(MaskGrad):
    """dy, bits u8[ceil(n/8)] -> dy where the bit is not set, else 0."""

    name = "rest_grad"
    kernels = elementwise(F32, U8)

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        dy, bits = arrays
        return Select().reference(np.zeros_like(dy), dy, bits)

    def lanes(self, w: Words, *operands: str) -> tuple[str, ...]:
        dy, bit = operands
        return (w.pick(bit, w.number(0.0), dy),)

    def expr(self, *operands: str) -> tuple[str, ...]:
        return self.lanes(PLAIN, *operands)


def _bits(*shape: int) -> TensorType:
    return TensorType(((TensorType(shape).numel + 7) // 8,), U8)


_OPERANDS = (((1,), (1,)), ((17,), (17,)), ((37,), (1,)), ((3, 5, 7), (7,)), ((3, 5, 8), (3, 5, 8)), ((4, 2, 3), (4, 1, 1)))
Select.examples = tuple(Example(Select(), (*f32(a, b), _bits(*a)), (0, 256)) for a, b in _OPERANDS)
RestGrad.examples = tuple(Example(RestGrad(), (*f32(shape), _bits(*shape)), (0, 256)) for shape in ((1,), (17,), (3, 5, 8)))
