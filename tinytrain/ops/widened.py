# SPDX-License-Identifier: Apache-2.0
"""Kernels of convolutions from halves by tiles of floats: what a kernel reads again and again is made floats once, in scratch.

Of a convolution and its gradient for x that are the map or a band of its rows, and a strip of the weight. Of the gradient of a weight it is
a block of channels of the map that vectors run along, and a tile of channels of the other; where that goes in bands, sums wait in scratch.
Kernels differ in how much they widen at once: the last that there is room for is the quickest.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product

from tinytrain.ir.op import Declined, Kernel, no
from tinytrain.ir.types import F16, TensorType
from tinytrain.ops.correlate import Banded
from tinytrain.ops.pieces import undivided
from tinytrain.ops.simd import WIDENING, Correlates, Simd
from tinytrain.ops.words import HasGeometry

_BANDS = (16, 12, 8, 6, 4, 3, 2, 1)
# Unit → what makes halves floats in an instruction or two: without that it is worth some RAM not to do it again and again.
_CONVERTS = {"rvf": ("zfh", "rvv")}


def results_widened() -> Iterator[Kernel]:
    """Of a convolution."""
    for simd in WIDENING:
        if simd.apart:
            yield from _banded(simd, "conv2d_apart", packed=False)
        yield from _banded(simd)


def input_gradients_widened() -> Iterator[Kernel]:
    """Of its gradient for x."""
    for simd in WIDENING:
        yield from _banded(simd, "conv2d_grad_x_direct", packed=False)
        yield from _banded(simd)


def _banded(simd: Simd, macro: str | None = None, packed: bool = True) -> Iterator[Kernel]:
    for bands in _BANDS:
        way = _Bands(simd, bands, packed)
        yield Kernel(
            "correlate", (F16, F16), simd.isa, macro, way.fits, way.params, way.scratch, spare=True,
            work=simd.sweeps if packed else simd.reads_on, tries=simd.tries, pays_without=_CONVERTS.get(simd.tag, ()),
        )


def weights_widened() -> Iterator[Kernel]:
    """Of a convolution's weight: vectors along the channels of x or, turned, along those of dy."""
    for simd, turned in product(WIDENING, (True, False)):
        for vectors, bands, together in _blocks(simd):
            way = _Blocks(simd, turned, vectors, bands, together)
            yield Kernel(
                "correlate_widened", (F16, F16), simd.isa, None, way.fits, way.params, way.scratch, spare=True, work=way.work,
                pays_without=_CONVERTS.get(simd.tag, ()),
            )


def _blocks(simd: Simd) -> Iterator[tuple[int, int, bool]]:
    """Vectors, bands, and whether the sums of all channels of the other map wait at once, or those of a tile."""
    yield from ((1, bands, False) for bands in (16, 8, 4, 2))
    yield from ((vectors, bands, True) for vectors in dict.fromkeys((1, 2, 4, 64 // simd.lanes)) for bands in (8, 4, 2, 1))


@dataclass(frozen=True)
class _Bands:
    """Of so many bands of rows one is widened at a time, and the weight is packed for each of them, or read as it stands."""

    simd: Simd
    bands: int
    packed: bool

    def fits(self, op: Correlates, *types: TensorType) -> bool | Declined:
        c = op.correlation(*types)
        if not self.packed and not (reads := undivided(op) and self.simd.filled_by(c.outer)):
            return reads
        if c.pixels <= self.simd.tile:
            return no(f"it pays for more than {c.pixels} pixels")
        found = len(Banded.of(c, self.bands).bands)
        return found == self.bands or no(f"its rows make {found} bands, not {self.bands}")

    def params(self, op: Correlates, *types: TensorType) -> dict[str, int]:
        return {**self.simd.tiles(op, *types), "bands": self.bands, "stands": not self.packed}

    def scratch(self, op: Correlates, *types: TensorType) -> int:
        strip_bytes = self.simd.strip_bytes(op, *types) if self.packed else 0
        return strip_bytes + 4 * Banded.of(op.correlation(*types), self.bands).held


@dataclass(frozen=True)
class _Blocks:
    """Of a band of rows so many vectors of one map are widened at a time, and a tile of the other."""

    simd: Simd
    turned: bool
    vectors: int
    bands: int
    together: bool

    def fits(self, op: HasGeometry, *types: TensorType) -> bool | Declined:
        g, (across, along) = op.geometry(*types).lined_up, self._channels(op, *types)
        if across == 1:
            return no("its vectors serve one result")
        if self.vectors > 1 and along <= self.simd.lanes * (self.vectors // 2):
            return no(f"{along} channels are no more than {self.vectors // 2} vectors")
        if g.rows.positions < self.bands:
            return no(f"{g.rows.positions} rows are too few for {self.bands} bands")
        return self.simd.filled_by(along)

    def params(self, op: HasGeometry, *types: TensorType) -> dict[str, int]:
        """The block of channels, and of lanes for it; in floats, what it takes of a band and what a tile of the other map takes."""
        g, (_, along) = op.geometry(*types).lined_up, self._channels(op, *types)
        block = min(along, self.vectors * self.simd.lanes)
        bands = g.bands(self.bands)
        dy, x = max(rows for _, rows, _, _ in bands) * g.cols.positions, max(rows for _, _, _, rows in bands) * g.cols.size
        wide, narrow = (dy, x) if self.turned else (x, dy)
        return {
            **self.simd.tiles(op, *types), "turned": self.turned, "fixed": self.simd.fixed, "block": block, "bands": self.bands,
            "together": self.together, "lanes": -(-block // self.simd.lanes) * self.simd.lanes, "wide": wide * block,
            "narrow": narrow * self.simd.tile,
        }

    def scratch(self, op: HasGeometry, *types: TensorType) -> int:
        p, g, (across, _) = self.params(op, *types), op.geometry(*types), self._channels(op, *types)
        sums = g.rows.taps * g.cols.taps * p["lanes"] * (across if self.together else self.simd.tile)
        return 4 * (p["wide"] + p["narrow"] + (sums if self.bands > 1 else 0))

    def work(self, params: Mapping[str, int], op: HasGeometry, *types: TensorType) -> dict[str, float]:
        g, (across, along) = op.geometry(*types).lined_up, self._channels(op, *types)
        blocks = -(-along // params["block"])
        dy, x = (t.numel for t in types[:2])
        return {**self.simd.outer(params, across, along, g), "packed": dy + blocks * x if self.turned else x + blocks * dy}

    def _channels(self, op: HasGeometry, *types: TensorType) -> tuple[int, int]:
        g = op.geometry(*types)
        x, dy = g.C // g.group, g.K // g.group
        return (x, dy) if self.turned else (dy, x)
