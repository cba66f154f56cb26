# SPDX-License-Identifier: Apache-2.0
"""Instruction sets: the tags of a board's `isa` and of kernels. Those with a vocabulary of floats stand in ops/simd.py, others here."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from tinytrain.ops.simd import HALVES, SIMD


@dataclass(frozen=True)
class Isa:
    """`header` of runtime_c/ is the vocabulary of its kernels, None where they are plain C; `needs` are tags that must stand beside it.

    `halves`: its instructions compute with halves, where others convert them at most.
    """

    tag: str
    header: str | None = None
    needs: tuple[str, ...] = ()
    halves: bool = False


ISAS = {
    isa.tag: isa
    for isa in (
        Isa("dsp", "tt_dsp.h"),                           # SMLAD and its like of Armv7E-M and Armv8-M
        Isa("fpu-sp"),
        Isa("fpu-dp", needs=("fpu-sp",)),
        Isa("fp16", needs=("fpu-sp",), halves=True),      # scalar half precision of Armv8.1-M
        Isa("zfh", needs=("fpu-sp",), halves=True),       # and of RISC-V
        # pairs of halves of PULP's SmallFloat extension
        Isa("xpulp", "tt_simd_xpulp.h", ("rvf", "zfh"), halves=True),
        *(Isa(simd.isa, f"tt_simd_{simd.tag}.h", simd.needs, halves=simd in HALVES) for simd in (*SIMD, *HALVES) if simd.isa),
    )
}


def headers(tags: Collection[str]) -> list[str]:
    """The vocabularies of these instruction sets, in order of the registry."""
    return list(dict.fromkeys(isa.header for isa in ISAS.values() if isa.tag in tags and isa.header))
