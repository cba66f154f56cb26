# SPDX-License-Identifier: Apache-2.0
"""Vocabularies of vector units: what a kernel must know of `runtime_c/tt_simd_<tag>.h` to plan its tiles and its scratch."""

from __future__ import annotations

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
_LITTLE = 1024                                            # bytes of scratch that are worth a quick kernel
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
    halves: bool = False                                  # it multiplies halves, in packed strips too
    double: int = 0                                       # of so many operands it has a tile for two vectors side by side

    def packs(self, template: str, dtypes: tuple[DType, ...], **more: Any) -> Kernel:
        """A kernel that packs strips of the weight, where that costs no RAM."""
        return Kernel(template, dtypes, self.isa, params=self.packed_tiles, scratch=self.strip_bytes, spare=True, **self._swept, **more)

    def packs_little(self, template: str, dtypes: tuple[DType, ...], **more: Any) -> Kernel:
        """The same where it costs RAM, but little."""
        return Kernel(template, dtypes, self.isa, None, self.is_little, self.packed_tiles, self.strip_bytes, **self._swept, **more)

    def packs_two(self, template: str, dtypes: tuple[DType, ...], **more: Any) -> Kernel:
        """The same of strips of two vectors."""
        params, scratch = self.double_tiles, self.two_strips_bytes
        return Kernel(template, dtypes, self.isa, None, self.fills_two, params, scratch, spare=True, **self._swept, **more)

    @property
    def _swept(self) -> dict[str, Any]:
        return {"work": self.sweeps, "tries": self.tries}

    def direct(self, template: str, dtypes: tuple[DType, ...], **more: Any) -> Kernel:
        """One that reads vectors from the weight as it stands."""
        return Kernel(template, dtypes, self.isa, accepts=self.reads, params=self.tiles, work=self.reads_on, tries=self.tries, **more)

    def direct_two(self, template: str, dtypes: tuple[DType, ...], **more: Any) -> Kernel:
        """The same, two vectors at once."""
        accepts, params = self.reads_two, self.double_tiles
        return Kernel(template, dtypes, self.isa, accepts=accepts, params=params, work=self.reads_on, tries=self.tries, **more)

    def tiles(self, op: object, *types: TensorType) -> dict[str, int]:
        """Parameters of a kernel: N lanes, P vectors, whether the weight is packed for tiles that are made for that, and the words."""
        own = {"N": self.lanes, "P": self.tile, "packed": self.packed > 0, "words": self.words}
        return {**own, "halves": True} if self.halves else own

    def double_tiles(self, op: object, *types: TensorType) -> dict[str, int]:
        """The same where two vectors side by side are a strip: N are the lanes of both."""
        return {**self.tiles(op, *types), "N": 2 * self.lanes, "P": self.double, "double": True}

    def packed_tiles(self, op: object, *types: TensorType) -> dict[str, int]:
        """The same where strips are packed."""
        return {**self.tiles(op, *types), "P": self.tile if types[1].dtype is not S8 or not self.packed else self.packed}

    @property
    def tries(self) -> dict[str, Sequence[int]]:
        """Smaller tiles, which may divide a map more evenly."""
        return {"P": range(self.tile, 0, -1)}

    def strip_bytes(self, op: Correlates, *types: TensorType) -> int:
        """Scratch for a strip of the weight."""
        return op.correlation(*types).strip_bytes(self.lanes) // (2 if self.halves else 1)

    def is_little(self, op: Correlates, *types: TensorType) -> bool | Declined:
        """Whether a strip is, where the kernel that needs none is a portable one."""
        strip_bytes = self.strip_bytes(op, *types)
        return strip_bytes <= _LITTLE or no(f"a strip of {strip_bytes} bytes is more than {_LITTLE}")

    def two_strips_bytes(self, op: Correlates, *types: TensorType) -> int:
        return 2 * self.strip_bytes(op, *types)

    def fills_two(self, op: Correlates, *types: TensorType) -> bool | Declined:
        """Whether results are pairs of vectors."""
        return self.pairs(op.correlation(*types).outer)

    def pairs(self, results: int) -> bool | Declined:
        """Whether that many neighbours are."""
        return results % (2 * self.lanes) == 0 or no(f"{results} results are no pairs of vectors")

    def reads_two(self, op: Correlates, *types: TensorType) -> bool | Declined:
        """Whether pairs of vectors are read from the weight as it stands."""
        return self.reads(op, *types) and self.fills_two(op, *types)

    def sweeps(self, params: Mapping[str, int], op: Correlates, *types: TensorType) -> dict[str, float]:
        """What a kernel does that packs strips of the weight."""
        return op.correlation(*types).work(params["N"], params["P"], packed=True)

    def reads_on(self, params: Mapping[str, int], op: Correlates, *types: TensorType) -> dict[str, float]:
        """What one does that reads vectors from the weight as it stands."""
        return op.correlation(*types).work(params["N"], params["P"], packed=False)

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
    Simd("mve", "mve", 4, 6, packed=4, words=True),       # Helium: six sums and two operands in 8 registers of 128 bits, or four and four
    Simd("rvv", "rvv", 16, 6, words=True),                # RISC-V vectors, Zve32f at least: six sums and an operand, each of 512 bits
    Simd("wide", "wide", 16, 6, (), words=True),          # this computer: the same
)
# Units that multiply halves, for operands that all are. Helium: two sums of halves beside two pairs of fp32 ones; or six, and those in
# memory.
HALVES = (
    Simd("mveh", "mveh", 8, 2, ("mve", "fp16"), words=True, halves=True, double=3),
)


def by_channel(template: str, *dtypes: tuple[DType, ...], macro: str | None = None) -> tuple[Kernel, ...]:
    """Kernels that go through the channels of maps in vectors, for units that have words for all it takes."""
    return tuple(
        Kernel(template, kinds, simd.isa, macro, simd.fills_channels, simd.tiles, half=ALL_HALVES)
        for simd in (*SIMD, *HALVES) if simd.words for kinds in (in_halves(dtypes) if simd.halves else dtypes)
    )


def in_halves(dtypes: Iterable[tuple[DType, ...]]) -> tuple[tuple[DType, ...], ...]:
    """Of kinds of operands those that begin with a float: as they are where that is a half."""
    return tuple((F16, *(kinds[1:] or (F32,))) for kinds in dtypes if kinds[0] is F32)


def _in_words(simd: Simd, op: Elementwise, *types: TensorType) -> bool | Declined:
    if op.lanes(Lanes(simd.tag), *op.args) is None:
        return no("its formula needs more than there are words for")
    return types[0].numel >= simd.lanes or no(f"{types[0].numel} elements do not fill a vector")


def elementwise(*dtypes: DType) -> tuple[Kernel, ...]:
    """Kernels of an op over elements: one by one, and as many as a vector has lanes where its formula is written in words.

    Where vectors are registers side by side, there are words for floats only.
    """
    kinds = dtypes or (F32,)
    fit = [simd for simd in SIMD if simd.words or (simd.isa and set(kinds) == {F32})]
    return Kernel("elementwise", kinds, macro="elementwise"), *(
        Kernel("elementwise", each, simd.isa, "in_lanes", partial(_in_words, simd), simd.tiles)
        for simd in (*fit, *HALVES) for each in (in_halves([kinds]) if simd.halves else (kinds,))
    )
