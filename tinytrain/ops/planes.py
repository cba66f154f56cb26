# SPDX-License-Identifier: Apache-2.0
"""Kernels of convolutions of halves. For the gradient of a weight maps are laid out with the padding as zeros, so that what a tap reads of
a whole map is one run (`PaddedMaps`). Where positions are as far apart as elements, and as many in a row, that of x is one as it stands:
then only dy is laid out, for each column of taps with zeros in place of what would meet the padding beside a row.

What a tap reads are every `stride`-th element: those of a residue lie side by side in a plane of their own. Rows of dy have zeros behind
them for the columns that planes have more: a product with one of them adds nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from math import prod

from tinytrain.ir.op import ALL_HALVES, FIRST_HALF, Declined, Kernel, Op, no
from tinytrain.ir.types import F16, F32, TensorType
from tinytrain.ops.geometry import BLOCK
from tinytrain.ops.simd import FLOATS, HALVES, OF_HALVES, SIMD, Simd
from tinytrain.ops.widened import input_gradients_widened, results_widened
from tinytrain.ops.words import HasGeometry

_FARTHEST = 2**16                                         # halves that a vector of offsets reaches
_NEXT, _SCALARS = 127, 6                                  # halves that VLDRH moves on by; of a tile, as chains and a vector leave registers
_LITTLE, _LITTLE_WORDS = 2048, 6144                       # bytes of scratch that are worth a kernel of halves, and one of words


def forward_halves() -> Iterator[Kernel]:
    """Of a convolution, from halves."""
    yield from results_widened()
    for simd in HALVES:
        if simd.apart:
            yield simd.direct("correlate", (F16, F16), macro="conv2d_apart")
            yield simd.packs("correlate", (F16, F16))
    yield from (simd.packs_little("correlate", (F16, F16)) for simd in OF_HALVES)
    yield from (simd.packs("correlate", (F16, F16)) for simd in HALVES if not simd.apart)


def back_floats() -> Iterator[Kernel]:
    """Of its gradient for x: a smaller strip of shorter vectors is no better than to read the weight as it stands."""
    for simd in SIMD:
        yield from (simd.direct("correlate", kinds, macro="conv2d_grad_x_direct", half=FIRST_HALF) for kinds in FLOATS)
        yield simd.packs("correlate", (F32,), accepts=simd.sweeps_enough, half=ALL_HALVES)


def back_halves() -> Iterator[Kernel]:
    """The same from halves."""
    yield from input_gradients_widened()
    yield from (simd.packs("correlate", (F16, F16)) for simd in HALVES if simd.apart and not simd.double)
    yield from (simd.direct("correlate", (F16, F16), macro="conv2d_grad_x_direct") for simd in HALVES)
    yield from (simd.packs("correlate", (F16, F16)) for simd in HALVES if not simd.apart)


def in_planes() -> Iterator[Kernel]:
    """Of a convolution's weight, from halves: vectors along the channels of x or, turned, along those of dy.

    First those with vectors of x as it stands, row by row of positions, and of dy but a tile, which costs RAM, but little; then those of
    maps with their padding; then with x as it stands again, where a row of it follows the one before as those of positions do; last with
    dy as words, of a tile alone.
    """
    units, macro = [simd for simd in HALVES if not simd.apart], "conv2d_grad_w_in_place"
    for simd in units:
        yield _weight(simd, _little_runs, partial(_in_place, simd.tile), partial(_run_bytes, simd.tile), macro, spare=False)
    for turned in (True, False):
        for simd in units:
            yield _weight(simd, partial(_fits, turned), partial(_tiles, turned), partial(_bytes, simd, turned))
    for simd in units:
        yield _weight(simd, _lies_in_line, partial(_in_place, BLOCK), partial(_run_bytes, BLOCK), macro)
    for simd in OF_HALVES:
        for accepts, spare in ((_few_words, False), (_in_words, True)):
            yield _weight(simd, accepts, _words, _word_bytes, "conv2d_grad_w_in_words", spare)


def _weight(simd: Simd, accepts: Callable[..., bool | Declined], params: Callable[..., dict[str, int]], scratch: Callable[..., int],
            macro: str | None = None, spare: bool = True) -> Kernel:
    return Kernel(
        "correlate_halves", (F16, F16), simd.isa, macro, partial(accepts, simd), partial(params, simd), scratch, spare=spare, work=_work,
        exact=simd.exact,
    )


def _in_words(simd: Simd, op: HasGeometry, *types: TensorType) -> bool | Declined:
    g = op.geometry(*types).lined_up
    if simd.exact:
        return no("it has no tiles of words")
    if g.rows.barren or g.cols.barren:
        return no("a tap, or a position, reads padding only")
    step = g.cols.stride * g.C
    if step > _NEXT:
        return no(f"vectors {step} halves apart are farther than {_NEXT}")
    return _fits(False, simd, op, *types)


def _few_words(simd: Simd, op: HasGeometry, *types: TensorType) -> bool | Declined:
    word_bytes = _word_bytes(op, *types)
    return _in_words(simd, op, *types) and (word_bytes <= _LITTLE_WORDS or no(f"words of {word_bytes} bytes are more than {_LITTLE_WORDS}"))


def _words(simd: Simd, op: Op, *types: TensorType) -> dict[str, int]:
    return {**_tiles(False, simd, op, *types), "P": _SCALARS}


def _word_bytes(op: HasGeometry, *types: TensorType) -> int:
    """A word of each position, of as many channels of dy as a tile takes."""
    g = op.geometry(*types).lined_up
    return 4 * min(_SCALARS, g.K // g.group) * g.rows.positions * g.cols.positions


def _little_runs(simd: Simd, op: HasGeometry, *types: TensorType) -> bool | Declined:
    g = op.geometry(*types).lined_up
    if g.rows.barren or g.cols.barren:
        return no("a tap, or a position, reads padding only")
    run_bytes = _run_bytes(simd.tile, op, *types)
    return _fits(False, simd, op, *types) and (run_bytes <= _LITTLE or no(f"runs of {run_bytes} bytes are more than {_LITTLE}"))


def _lies_in_line(simd: Simd, op: HasGeometry, *types: TensorType) -> bool | Declined:
    g = op.geometry(*types).lined_up
    if not g.in_line or g.rows.barren or g.cols.barren:
        return no("its positions are no elements in line")
    return _fits(False, simd, op, *types)


def _in_place(block: int, simd: Simd, op: Op, *types: TensorType) -> dict[str, int]:
    return {**_tiles(False, simd, op, *types), "block": block}


def _run_bytes(block: int, op: HasGeometry, *types: TensorType) -> int:
    """Runs of so many channels of dy."""
    g = op.geometry(*types).lined_up
    return 2 * min(block, g.K // g.group) * g.run


def _fits(turned: bool, simd: Simd, op: HasGeometry, *types: TensorType) -> bool | Declined:
    g = op.geometry(*types).lined_up
    layout, along = g.layout, (g.K if turned else g.C) // g.group
    if (layout.block - 1) * (layout.x if turned else layout.dy) >= _FARTHEST:
        return no("its maps are too large to be turned")
    if simd.double and along % simd.lanes:
        return no(f"{along} channels are not whole vectors of {simd.lanes}")
    return simd.filled_by(along)


def _tiles(turned: bool, simd: Simd, op: Op, *types: TensorType) -> dict[str, int]:
    return {**simd.tiles(op, *types), "turned": turned}


def _bytes(simd: Simd, turned: bool, op: HasGeometry, *types: TensorType) -> int:
    """A vector of each element of one map, and a block of runs of the other."""
    g = op.geometry(*types).lined_up
    layout = g.layout
    vectors, runs, across = (layout.dy, layout.x, g.C) if turned else (layout.x, layout.dy, g.K)
    return 2 * (simd.lanes * vectors + min(layout.block, across // g.group) * runs)


def _work(params: Mapping[str, int], op: HasGeometry, *types: TensorType) -> dict[str, float]:
    g = op.geometry(*types).lined_up
    layout = g.layout
    across, along = (n // g.group for n in ((g.C, g.K) if params["turned"] else (g.K, g.C)))
    vectors = g.group * -(-along // params["N"])
    taps = len(layout.taps)
    return {
        "mac": taps * vectors * across * layout.steps, "tile": taps * vectors * -(-across // params["P"]),
        "packed": prod((vectors, layout.x + layout.dy * -(-across // layout.block))), "out": taps * across * along * g.group,
    }
