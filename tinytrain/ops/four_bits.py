# SPDX-License-Identifier: Apache-2.0
"""unpack_four_bits: w[2i] = low half of p[i], w[2i + 1] = its high half, each with its sign

Weights of four bits lie in flash two a byte; where one is read, it stands in the arena as int8 while that node runs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tinytrain.ir.op import Example, Kernel, Op
from tinytrain.ir.types import S8, Array, Quant, TensorType

LOW, HIGH = -8, 7


def packed(w: Array) -> Array:
    """int8 from -8 to 7, two a byte as int8; an odd last one has 0 beside it."""
    flat = w.reshape(-1).astype(np.uint8) & 15
    pairs = np.append(flat, np.zeros(flat.size % 2, np.uint8)).reshape(-1, 2)
    return np.asarray(pairs[:, 0] | pairs[:, 1] << 4, np.uint8).view(np.int8)


@dataclass(frozen=True)
class UnpackFourBits(Op):
    """p s8[ceil(n/2)] -> w s8 of `shape` (n elements)."""

    shape: tuple[int, ...]
    quant: Quant | None = None

    name = "unpack_four_bits"
    args = ("p",)
    results = ("w",)
    kernels = (Kernel("four_bits", (S8,)),)

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        w = TensorType(self.shape, S8, self.quant)
        if types[0] != TensorType(((w.numel + 1) // 2,), S8):
            raise ValueError(f"{types[0]} holds no {w.numel} numbers of four bits")
        return (w,)

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        (p,) = arrays
        both = np.stack([((p & 15) ^ 8) - 8, p >> 4], axis=1).astype(np.int8).reshape(-1)
        return (both[: TensorType(self.shape).numel].reshape(self.shape),)


UnpackFourBits.examples = tuple(
    Example(UnpackFourBits(shape), (TensorType(((TensorType(shape).numel + 1) // 2,), S8),), (-128, 128))
    for shape in ((1,), (4, 3, 3, 2), (5, 7))
)
