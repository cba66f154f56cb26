# SPDX-License-Identifier: Apache-2.0
"""encode: y = saturate(round(x / s) + z), x taken as fp32 bits        decode: y = s·(q − z), fp32 bits out of a table
integer_softmax: p_i = t[max q − q_i] / Σ t[max q − q_j],  t[k] = 2^bits·e^(−s·k)
integer_cross_entropy: L = ln Σ t[max q − q_j] − bits·ln 2 + s·(max q − q_label);  dq_i = p_i − [i = label], p in units of 2^-15

The ends of a graph without floating point: what comes in and goes out is fp32, but no instruction computes with it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tinytrain.ir.loss import Loss
from tinytrain.ir.op import Declined, Elementwise, Example, Kernel, Op, no
from tinytrain.ir.types import F32, S8, S32, Array, Quant, TensorType
from tinytrain.ops.fixed import float_bits, log2_q20, multipliers

TABLE = TensorType((256,), S32)
_LN2_Q30 = 744261118


@dataclass(frozen=True)
class Encode(Op):
    """x f32 -> s8 with the given scale and zero point, within [low, high]; ties to even."""

    scale: float = 1.0
    zero_point: int = 0
    low: int = -128
    high: int = 127

    name = "encode"
    kernels = (Kernel("integer"),)

    @property
    def inverse(self) -> tuple[int, int]:
        """1/scale = m·2^-s."""
        m, s = multipliers(np.array([1 / self.scale]))
        return int(m[0]), int(s[0])

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        if types[0].dtype is not F32:
            raise ValueError(f"x {types[0]}: f32 is expected")
        return (TensorType(types[0].shape, S8, Quant((self.scale,), self.zero_point)),)

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        m, s = self.inverse
        bits = arrays[0].astype(np.float32).view(np.uint32).astype(np.int64)
        power = bits >> 23 & 255
        shift = s + 150 - power
        by = np.clip(shift, 1, 62)
        half = np.int64(1) << (by - 1)
        product = (bits & 0x7FFFFF | 0x800000) * m
        rounded = (product + half) >> by
        even = np.where((product & (2 * half - 1)) == half, rounded & ~1, rounded)
        q = np.where((power == 0) | (shift > 62), 0, np.where(shift < 1, 256, np.minimum(even, 256)))
        signed = self.zero_point + np.where(bits >> 31 != 0, -q, q)
        return (np.clip(signed, self.low, self.high).astype(np.int8),)


@dataclass(frozen=True)
class Decode(Op):
    """q s8, table s32[256] of fp32 bits, that of −128 first -> y f32."""

    name = "decode"
    args = ("q", "table")
    kernels = (Kernel("integer", (S8, S32)),)

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        if types[0].dtype is not S8 or types[1] != TABLE:
            raise ValueError(f"q {types[0]}, table {types[1]}")
        return (TensorType(types[0].shape),)

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        return (arrays[1].view(np.float32)[arrays[0].astype(np.int64) + 128],)


def exponentials(scale: float, bits: int) -> Array:
    """t[k] = 2^bits·e^(−scale·k)."""
    return np.asarray(np.rint(np.exp(-scale * np.arange(256)) * 2.0**bits), np.int32)


def table_bits(classes: int) -> int:
    """As many fraction bits as leave room for the sum of all classes in 32 bits."""
    bits = 31 - classes.bit_length()
    if bits < 16:
        raise ValueError(f"{classes} classes: a table of 16 bits fits 32767 at most")
    return min(bits, 24)


@dataclass(frozen=True)
class TableSoftmax(Op):
    """Base of ops over logits s8 and the table of exponentials."""

    bits: int = 24

    def shares(self, z: Array, table: Array) -> tuple[int, Array]:
        """Σ t and p of one row, p in units of 2^-15."""
        t = table.astype(np.int64)[int(z.max()) - z.astype(np.int64)]
        total = int(t.sum())
        return total, (t << (31 - self.bits)) // (total >> (self.bits - 16))


@dataclass(frozen=True)
class IntegerSoftmax(TableSoftmax):
    """logits s8 (..., N), table s32[256] -> probs f32 like logits."""

    name = "integer_softmax"
    args = ("logits", "table")
    results = ("probs",)
    kernels = (Kernel("integer", (S8, S32)),)

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        if types[0].dtype is not S8 or types[1] != TABLE:
            raise ValueError(f"logits {types[0]}, table {types[1]}")
        return (TensorType(types[0].shape),)

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        rows = arrays[0].reshape(-1, arrays[0].shape[-1])
        made = [[float_bits(int(p), -15) for p in self.shares(row, arrays[1])[1]] for row in rows]
        return (np.array(made, np.uint32).view(np.float32).reshape(arrays[0].shape),)


@dataclass(frozen=True)
class IntegerCrossEntropy(TableSoftmax, Loss):
    """logits s8 (N,), label s32[1], table s32[256] -> loss f32[1] [, probs s32 like logits, in units of 2^-15].

    `step` is the scale of the logits in units of 2^-20. Should a label lie outside [0, N), the nearest class counts.
    """

    step: int = 0
    probs: bool = True

    name = "integer_cross_entropy"
    differentiable = False
    args = ("logits", "label", "table")
    kernels = (Kernel("integer", (S8, S32)),)

    @property
    def results(self) -> tuple[str, ...]:                 # type: ignore[override]
        return ("loss", "probs") if self.probs else ("loss",)

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        logits, label, table = types
        if logits.dtype is not S8 or logits.numel != logits.shape[-1] or label != TensorType((1,), S32) or table != TABLE:
            raise ValueError(f"logits {logits}, label {label}, table {table}")
        loss = TensorType((1,))
        return (loss, TensorType(logits.shape, S32)) if self.probs else (loss,)

    def without(self, outputs: frozenset[int]) -> Op | Declined:
        return dataclasses.replace(self, probs=False) if outputs == {1} and self.probs else no("only probs can be left out")

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        z, label, table = arrays
        at = min(max(int(label[0]), 0), z.size - 1)
        flat = z.reshape(-1).astype(np.int64)
        total, p = self.shares(flat, table)
        natural = (log2_q20(total) - (self.bits << 20)) * _LN2_Q30 >> 30
        bits = float_bits(natural + int(flat.max() - flat[at]) * self.step, -20)
        loss = np.array([bits], np.uint32).view(np.float32)
        return (loss, p.astype(np.int32).reshape(z.shape)) if self.probs else (loss,)


@dataclass(frozen=True)
class IntegerCrossEntropyGrad(Elementwise):
    """probs s32 (N,) in units of 2^-15, label s32[1] -> dlogits s32: 1 is taken off the probability of the class."""

    name = "integer_cross_entropy_grad"
    args = ("probs", "label")
    results = ("dlogits",)
    kernels = (Kernel("elementwise", (S32,), macro="elementwise"),)

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        probs, label = arrays
        at = min(max(int(label[0]), 0), probs.size - 1)
        return (probs - np.int32(32768) * (np.arange(probs.size) == at).reshape(probs.shape),)

    def load(self, operand: int, pointer: str, i: str, c: str, types: Sequence[TensorType]) -> tuple[str, str]:
        if operand == 0:
            return super().load(operand, pointer, i, c, types)
        last, at = types[0].numel - 1, f"{pointer}[0]"
        return "int32_t", f"({at} < 0 ? 0 : {at} > {last} ? {last} : {at}) == {i}"

    def expr(self, *operands: str) -> tuple[str, ...]:
        return (f"{operands[0]} - ({operands[1]} ? 32768 : 0)",)

    @property
    def inplace(self) -> tuple[tuple[int, int], ...]:
        return ((0, 0),)


_ALL = (-128, 128)
Encode.examples = tuple(
    Example(op, (TensorType(shape),))
    for op in (Encode(0.01, 3), Encode(0.0039, -128), Encode(0.5), Encode(1e-30), Encode(1e30, 5), Encode(0.125, 0, -20, 20))
    for shape in ((1,), (64,), (3, 5))
)
Decode.examples = tuple(Example(Decode(), (TensorType(shape, S8), TABLE), _ALL) for shape in ((1,), (300,), (3, 5)))
# entries of the table as large as real ones, so that their sum is what the kernel divides by; logits are their lowest bytes
_ENTRIES = (2**21, 2**22)
IntegerSoftmax.examples = tuple(Example(IntegerSoftmax(22), (TensorType(shape, S8), TABLE), _ENTRIES) for shape in ((2,), (10,), (3, 5)))
IntegerCrossEntropy.examples = tuple(
    Example(IntegerCrossEntropy(22, 104857, probs), (TensorType(shape, S8), TensorType((1,), S32), TABLE), _ENTRIES)
    for shape in ((2,), (10,), (1, 1, 5)) for probs in (True, False)
)
IntegerCrossEntropyGrad.examples = tuple(
    Example(IntegerCrossEntropyGrad(), (TensorType(shape, S32), TensorType((1,), S32)), labels)
    for shape in ((1,), (7,), (1, 1, 5)) for labels in ((0, shape[-1]), (-7, 0), (20, 32769))
)
