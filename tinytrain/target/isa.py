# SPDX-License-Identifier: Apache-2.0
"""Instruction sets: the tags of a board's `isa` and of kernels. A new one is a line here and the header that it names."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass


@dataclass(frozen=True)
class Isa:
    """`header` of runtime_c/ is the vocabulary of its kernels, None where they are plain C; `needs` are tags that must stand beside it."""

    tag: str
    header: str | None = None
    needs: tuple[str, ...] = ()


ISAS = {
    isa.tag: isa
    for isa in (
        Isa("dsp", "tt_dsp.h"),                           # SMLAD and its like of Armv7E-M and Armv8-M
        Isa("fpu-sp"),
        Isa("fpu-dp", needs=("fpu-sp",)),
        Isa("fp16", needs=("fpu-sp",)),                   # scalar half precision of Armv8.1-M
        Isa("vfp", "tt_simd_vfp.h", ("fpu-sp",)),         # 32 single-precision registers of a Cortex-M
        Isa("rvf", "tt_simd_rvf.h", ("fpu-sp",)),         # and of RISC-V
        Isa("mve", "tt_simd_mve.h", ("fpu-sp",)),         # Helium: vectors of 128 bits, integers and floats
        Isa("rvv", "tt_simd_rvv.h", ("fpu-sp",)),         # RISC-V vectors of 128 bits or more, at least Zve32f
        Isa("wide", "tt_simd_wide.h"),                    # vectors of the computer itself, as its compiler knows them
    )
}


def headers(tags: Collection[str]) -> list[str]:
    """The vocabularies of these instruction sets, in order of the registry."""
    return [isa.header for isa in ISAS.values() if isa.tag in tags and isa.header]
