# SPDX-License-Identifier: Apache-2.0
"""Kernels of convolutions from halves by tiles of floats: what a kernel reads again and again is made floats once, in scratch that costs no RAM.

Of a convolution and its gradient for x (`maps_widened`) that is a strip of the weight, and the map or a band of its rows. Of the gradient of a weight
(`weights_widened`) it is a block of channels of the map that vectors run along, and a tile of channels of the other; in bands, sums wait
in scratch. Kernels differ in how much they widen at once: the last that there is room for is the quickest.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product

from tinytrain.ir.op import Declined, Kernel, no
from tinytrain.ir.types import F16, TensorType
from tinytrain.ops.correlate import Banded
from tinytrain.ops.simd import WIDENING, Correlates, Simd
from tinytrain.ops.words import HasGeometry

_BANDS = (16, 12, 8, 6, 4, 3, 2, 1)


def maps_widened() -> Iterator[Kernel]:
    """Of a convolution or its gradient for x."""
    for simd, bands in product(WIDENING, _BANDS):
        way = _Bands(simd, bands)
        yield Kernel(
            "correlate", (F16, F16), simd.isa, accepts=way.fits, params=way.params, scratch=way.scratch, spare=True, work=simd.sweeps,
            tries=simd.tries,
        )


def weights_widened() -> Iterator[Kernel]:
    """Of a convolution's weight: vectors along the channels of x or, turned, along those of dy."""
    for simd, turned in product(WIDENING, (True, False)):
        for vectors, bands in product(dict.fromkeys((1, 2, 4, 64 // simd.lanes)), (8, 4, 2, 1)):
            way = _Blocks(simd, turned, vectors, bands)
            yield Kernel(
                "correlate_widened", (F16, F16), simd.isa, accepts=way.fits, params=way.params, scratch=way.scratch, spare=True, work=way.work,
            )


@dataclass(frozen=True)
class _Bands:
    """Of so many bands of rows one is widened at a time."""

    simd: Simd
    bands: int

    def fits(self, op: Correlates, *types: TensorType) -> bool | Declined:
        c = op.correlation(*types)
        if c.pixels <= self.simd.tile:
            return no(f"it pays for more than {c.pixels} pixels")
        found = len(Banded.of(c, self.bands).bands)
        return found == self.bands or no(f"its rows make {found} bands, not {self.bands}")

    def params(self, op: Correlates, *types: TensorType) -> dict[str, int]:
        return {**self.simd.tiles(op, *types), "bands": self.bands}

    def scratch(self, op: Correlates, *types: TensorType) -> int:
        return self.simd.strip_bytes(op, *types) + 4 * Banded.of(op.correlation(*types), self.bands).held


@dataclass(frozen=True)
class _Blocks:
    """Of a band of rows so many vectors of one map are widened at a time, and a tile of the other."""

    simd: Simd
    turned: bool
    vectors: int
    bands: int

    def fits(self, op: HasGeometry, *types: TensorType) -> bool | Declined:
        g, (across, along) = op.geometry(*types).lined_up, self._channels(op, *types)
        if across == 1:
            return no("its vectors serve one result")
        if self.vectors > 1 and along <= self.simd.lanes * (self.vectors // 2):
            return no(f"{along} channels are no more than {self.vectors // 2} vectors")
        if g.rows.positions < 2 * self.bands and self.bands > 1:
            return no(f"{g.rows.positions} rows are too few for {self.bands} bands")
        return self.simd.filled_by(along)

    def params(self, op: HasGeometry, *types: TensorType) -> dict[str, int]:
        """The block and, in floats, what it takes of a band and what a tile of the other map takes."""
        g, (_, along) = op.geometry(*types).lined_up, self._channels(op, *types)
        block = min(along, self.vectors * self.simd.lanes)
        bands = g.bands(self.bands)
        dy, x = max(rows for _, rows, _, _ in bands) * g.cols.positions, max(rows for _, _, _, rows in bands) * g.cols.size
        wide, narrow = (dy, x) if self.turned else (x, dy)
        return {
            **self.simd.tiles(op, *types), "turned": self.turned, "fixed": self.simd.fixed, "block": block, "bands": self.bands,
            "wide": wide * block, "narrow": narrow * self.simd.tile,
        }

    def scratch(self, op: HasGeometry, *types: TensorType) -> int:
        p, g, (across, _) = self.params(op, *types), op.geometry(*types), self._channels(op, *types)
        sums = g.rows.taps * g.cols.taps * across * -(-p["block"] // self.simd.lanes) * self.simd.lanes
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
