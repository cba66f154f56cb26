# SPDX-License-Identifier: Apache-2.0
"""Vocabularies of vector units: what a kernel must know of `runtime_c/tt_simd_<tag>.h` to plan its tiles and its scratch."""

from __future__ import annotations

from dataclasses import dataclass

from tinytrain.ir.op import Op
from tinytrain.ir.types import TensorType


@dataclass(frozen=True)
class Simd:
    """`lanes` floats stand in a vector, and up to `tile` of them are summed at once; `isa` is the tag of boards that have it."""

    tag: str
    isa: str | None
    lanes: int
    tile: int
    packed: bool = False                                  # it has tiles of its own for packed strips

    def tiles(self, op: Op, *types: TensorType) -> dict[str, int]:
        """Parameters of a kernel: N lanes, P vectors, and whether the weight is packed for tiles that are made for that."""
        return {"N": self.lanes, "P": self.tile, "packed": self.packed}


SIMD = (
    Simd("scalar", None, 4, 4),                           # 16 sums; a board's own compiler finds registers for them
    Simd("vfp", "vfp", 4, 5, packed=True),                           # Cortex-M with a single-precision FPU: 20 sums in 32 registers
    Simd("rvf", "rvf", 4, 6, packed=True),                           # RISC-V F: 24 sums in 32 registers
)

