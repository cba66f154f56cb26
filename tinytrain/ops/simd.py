# SPDX-License-Identifier: Apache-2.0
"""Vocabularies of vector units: what a kernel must know of `runtime_c/tt_simd_<tag>.h` to plan its tiles and its scratch."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from tinytrain.ir.op import ALL_HALVES, Declined, Elementwise, Kernel, Op, no
from tinytrain.ir.types import F16, F32, S8, DType, TensorType
from tinytrain.ir.words import Lanes
from tinytrain.ops.correlate import Correlation
from tinytrain.ops.geometry import Geometry
from tinytrain.ops.pieces import HasPieces, undivided


class Correlates(HasPieces, Protocol):
    """A convolution or its gradient for x."""

    def correlation(self, *types: TensorType) -> Correlation: ...


_TILES = 8
_LITTLE = 1024                                            # bytes of scratch that are worth a kernel that is not portable
FLOATS = ((F32,), (F16, F16))                             # operands of kernels that have tiles for either, or for a mix by `half`


@dataclass(frozen=True)
class Simd:
    """`lanes` floats stand in a vector, and up to `tile` of them are summed at once; `isa` is the tag of boards that have it.

    `needs` are tags that must stand beside it.
    """

    tag: str
    isa: str | None
    lanes: int
    tile: int
    needs: tuple[str, ...] = ("fpu-sp",)
    packed: int = 0                                       # it has tiles of its own for packed strips; of int8 so many sums at once
    fixed: bool = False                                   # its tiles `outer` are told the steps of both operands, as constants
    dots: bool = False                                    # it has a tile for rows of a weight that are read once
    words: bool = False                                   # its vectors are one register or more each, and it has words for integers
    double: bool = False                                  # its tiles have twice as many lanes as the vectors of its words
    apart: bool = False                                   # what lies apart is loaded as quickly as neighbours
    exact: bool = True                                    # its tiles round no product
    flushes: bool = False                                 # its vectors take subnormal floats for zeros

    @property
    def floats(self) -> tuple[tuple[DType, ...], ...]:
        """Kinds of operands that its kernels multiply floats of."""
        return FLOATS if self.exact else FLOATS[1:]

    def taken(self, kinds: Iterable[tuple[DType, ...]]) -> tuple[tuple[DType, ...], ...]:
        """Of kinds of operands those that its words are for: where it multiplies halves, those that begin with a float, which is one."""
        return tuple(kinds) if self.exact else tuple((F16, *(each[1:] or (F32,))) for each in kinds if each[0] is F32)

    def packs(self, template: str, dtypes: tuple[DType, ...], **more: Any) -> Kernel:
        """A kernel that packs strips of the weight, where that costs no RAM."""
        scratch = self.strip_halves if F16 in dtypes else self.strip_bytes
        return Kernel(
            template, dtypes, self.isa, params=self.packed_tiles, scratch=scratch, spare=True, work=self.sweeps, tries=self.tries,
            exact=self.exact, shared=True, **({"accepts": self.fills_evenly, **more} if self.double else more),
        )

    def packs_little(self, template: str, dtypes: tuple[DType, ...], **more: Any) -> Kernel:
        """The same where it costs RAM, but little."""
        return dataclasses.replace(self.packs(template, dtypes, **more), accepts=self.is_little, spare=False)

    def direct(self, template: str, dtypes: tuple[DType, ...], **more: Any) -> Kernel:
        """One that reads vectors from the weight as it stands."""
        accepts = self.reads_evenly if self.double else self.reads
        return Kernel(
            template, dtypes, self.isa, accepts=accepts, params=self.tiles, work=self.reads_on, tries=self.tries, exact=self.exact,
            shared=True, **more,
        )

    def tiles(self, op: object, *types: TensorType) -> dict[str, int]:
        """Parameters of a kernel: N lanes, P vectors, whether the weight is packed for tiles that are made for that, and the words."""
        found = {"N": self.lanes, "P": self.tile, "packed": self.packed > 0, "words": self.words}
        return {**found, "double": True} if self.double else found

    def packed_tiles(self, op: object, *types: TensorType) -> dict[str, int]:
        """The same where strips are packed."""
        return {**self.tiles(op, *types), "P": self.tile if types[1].dtype is not S8 or not self.packed else self.packed}

    @property
    def tries(self) -> dict[str, Sequence[int]]:
        """Smaller tiles, which may divide a map more evenly."""
        return {"P": range(self.tile, 0, -1)}

    def strip_bytes(self, op: Correlates, *types: TensorType) -> int:
        """Scratch for a strip of the weight as floats."""
        return 4 * op.correlation(*types).strip(self.lanes)

    def strip_halves(self, op: Correlates, *types: TensorType) -> int:
        """The same as halves."""
        return 2 * op.correlation(*types).strip(self.lanes)

    def is_little(self, op: Correlates, *types: TensorType) -> bool | Declined:
        """Whether such a strip is."""
        strip_bytes = self.strip_halves(op, *types)
        return strip_bytes <= _LITTLE or no(f"a strip of {strip_bytes} bytes is more than {_LITTLE}")

    def sweeps(self, params: Mapping[str, int], op: Correlates, *types: TensorType) -> dict[str, float]:
        """What a kernel does that packs strips of the weight."""
        return op.correlation(*types).work(self.lanes, params["P"], packed=True)

    def reads_on(self, params: Mapping[str, int], op: Correlates, *types: TensorType) -> dict[str, float]:
        """What one does that reads vectors from the weight as it stands."""
        return op.correlation(*types).work(self.lanes, params["P"], packed=False)

    def outer(self, params: Mapping[str, int], across: int, along: int, g: Geometry) -> dict[str, float]:
        """What one does for a gradient of the weight: in tiles of `across` scalars, each times vectors that run along `along` others."""
        vectors = g.group * -(-along // self.lanes)
        tiles = vectors * -(-across // params["P"]) if across > 1 else -(-vectors // params["P"])
        rows, cols = ([sum(0 <= axis.element(p, t) < axis.size for p in range(axis.positions)) for t in range(axis.taps)]
                      for axis in (g.rows, g.cols))
        pixels = sum(rows) * sum(cols)
        return {
            "tap": g.group * len(rows) * len(cols), "tile": tiles * len(rows) * len(cols), "run": tiles * sum(rows) * len(cols),
            "step": tiles * pixels, "mac": pixels * across * vectors, "out": len(rows) * len(cols) * across * vectors,
        }

    def fills_evenly(self, op: Correlates, *types: TensorType) -> bool | Declined:
        """Whether the results of a pixel are whole vectors."""
        outer = op.correlation(*types).outer
        return outer % self.lanes == 0 or no(f"{outer} results of a pixel are not whole vectors of {self.lanes}")

    def reads_evenly(self, op: Correlates, *types: TensorType) -> bool | Declined:
        """The same where vectors are read from the weight as it stands."""
        return self.fills_evenly(op, *types) and self.reads(op, *types)

    def fills_channels(self, op: Op, *types: TensorType) -> bool | Declined:
        """Whether the channels of a map are a vector at least."""
        return self.filled_by(types[0].shape[-1])

    def filled_by(self, channels: int) -> bool | Declined:
        """Whether that many neighbours are a vector at least: the last vector may then cover some of them again."""
        return channels >= self.lanes or no(f"{channels} channels do not fill a vector")

    def sweeps_often(self, op: Correlates, *types: TensorType) -> bool | Declined:
        """Whether it pays to pack int8 weights, which its tiles read as they stand too, where they are in one piece."""
        pixels = op.correlation(*types).pixels
        return op.pieces is not None or pixels > 2 * self.tile or no(f"it pays for more than {pixels} pixels")

    def sweeps_enough(self, op: Correlates, *types: TensorType) -> bool | Declined:
        """Whether it pays to pack floats, which could be read as they stand: to pack a step takes what eight tiles save by it."""
        work = op.correlation(*types).work(self.lanes, self.tile, packed=True)
        tiles = work["step"] / work["packed"]
        return not self.reads(op, *types) or tiles >= _TILES or no(f"it pays for {_TILES} tiles a step; there are {tiles:.1f}")

    def reads(self, op: Correlates, *types: TensorType) -> bool | Declined:
        """Whether vectors are read from the weight as it stands."""
        if not (alone := undivided(op)):
            return alone
        if types[1].dtype is not F32 and not self.words:
            return no("its weight is read again and again, and is no array of floats")
        return self.filled_by(op.correlation(*types).outer)


SIMD = (
    Simd("scalar", None, 4, 4),                           # 16 sums; a board's own compiler finds registers for them
    Simd("vfp", "vfp", 4, 5, packed=5, dots=True),        # Cortex-M with a single-precision FPU: 20 sums in 32 registers
    Simd("rvf", "rvf", 4, 6, packed=6, fixed=True),       # RISC-V F: 24 sums in 32 registers
    # Helium: six sums and two operands in 8 registers of 128 bits, or four and four
    Simd("mve", "mve", 4, 6, packed=4, words=True, flushes=True),
    Simd("rvv", "rvv", 16, 6, words=True, apart=True),    # RISC-V vectors, Zve32f at least: six sums and an operand, each of 512 bits
    Simd("wide", "wide", 16, 6, (), words=True),          # this computer: the same
)
# Units that multiply halves, for kernels of their own where both operands are such. With Zvfh the vectors are those of rvv: strips of a
# weight stay halves, and three sums of 1,024 bits take all registers that operands leave.
HALVES = (
    Simd("rvv", "zvfh", 16, 6, ("rvv", "zfh"), words=True, apart=True),
    Simd("rvv", "zvfh", 32, 3, ("rvv", "zfh"), words=True, double=True, apart=True),
    # Helium: three operands and a vector, or two: six sums of halves and two operands in 8 registers, fp32 sums in memory
    Simd("mveh", "mveh", 8, 3, ("mve", "fp16"), words=True, exact=False, flushes=True),
    Simd("mveh", "mveh", 16, 3, ("mve", "fp16"), words=True, double=True, exact=False, flushes=True),
)
# units that make halves floats before they sum them: Helium has tiles for halves wherever it has some for floats
WIDENING = tuple(simd for simd in SIMD if simd.isa not in (None, "mve"))
# those with words of their own
OF_HALVES = tuple(simd for simd in HALVES if simd.tag == simd.isa and not simd.double)
# instruction sets whose kernels of floats flush
FLUSHING = frozenset(simd.isa for simd in (*SIMD, *HALVES) if simd.flushes)
# instruction set → the vocabulary that its kernels are written with
VOCABULARIES = {simd.isa: simd.tag for simd in (*SIMD, *HALVES) if simd.isa}


def by_channel(template: str, *dtypes: tuple[DType, ...], macro: str | None = None, shared: bool = False) -> tuple[Kernel, ...]:
    """Kernels that go through the channels of maps in vectors, for units that have words for all it takes."""
    return tuple(
        Kernel(template, kinds, simd.isa, macro, simd.fills_channels, simd.tiles, half=ALL_HALVES, shared=shared)
        for simd in (*SIMD, *OF_HALVES) if simd.words for kinds in simd.taken(dtypes)
    )


def _in_words(simd: Simd, op: Elementwise, *types: TensorType) -> bool | Declined:
    if op.lanes(Lanes("any"), *op.args) is None:
        return no("its formula needs more than there are words for")
    return types[0].numel >= simd.lanes or no(f"{types[0].numel} elements do not fill a vector")


def elementwise(*dtypes: DType) -> tuple[Kernel, ...]:
    """Kernels of an op over elements: one by one, and as many as a vector has lanes where its formula is written in words.

    Where vectors are registers side by side, there are words for floats only.
    """
    kinds = dtypes or (F32,)
    fit = [simd for simd in SIMD if simd.words or (simd.isa and set(kinds) == {F32})]
    return Kernel("elementwise", kinds, macro="elementwise", shared=True), *(
        Kernel("elementwise", each, simd.isa, "in_lanes", partial(_in_words, simd), simd.tiles, shared=True)
        for simd in (*fit, *OF_HALVES) for each in simd.taken([kinds])
    )
