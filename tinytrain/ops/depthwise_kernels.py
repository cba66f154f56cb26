# SPDX-License-Identifier: Apache-2.0
"""Kernels of depthwise convolutions and their gradients, from the portable one to the fastest."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Protocol

from tinytrain.ir.op import ALL_HALVES, FIRST_HALF, Declined, Kernel, Op, no
from tinytrain.ir.types import F16, F32, S8, DType, TensorType
from tinytrain.ops import lanes
from tinytrain.ops.conv_tiles import split
from tinytrain.ops.correlate import Correlation, apart
from tinytrain.ops.outer import depth_outer
from tinytrain.ops.pieces import ReadsPieces, undivided
from tinytrain.ops.simd import FLOATS, OF_HALVES, SIMD, Simd
from tinytrain.ops.words import HasGeometry, fits_plane, line_bytes, line_tiles, plane_bytes, plane_tiles, takes_lines

_PIXEL_TRIES = {"PW": (1, 2, 4), "CT": (2, 4, 8)}
_WEIGHT_TRIES = {"CT": (2, 4, 8)}
_REGISTERS = 26                                           # of 32: some hold an element and products
_PAIR_REGISTERS = 28                                      # what is read stays a pair
_FLOATS, _STORED, _BYTES = (F32,), (F32, S8), (S8, S8)


class Depthwise(HasGeometry, Protocol):
    """One of the three ops."""

    def correlation(self, *types: TensorType) -> Correlation: ...


def forward() -> Iterator[Kernel]:
    """Of depthwise_conv2d."""
    yield Kernel("depthwise", params=_pixel_tiles, tries=_PIXEL_TRIES, half=ALL_HALVES)
    yield from _packed(_FLOATS, half=ALL_HALVES)
    yield from _in_place()
    yield Kernel("depthwise", _BYTES, params=_pixel_tiles, tries=_PIXEL_TRIES)
    yield _through_ring("rvf", 1, partial(lanes.passes_ring, 1))
    yield _through_ring("rvf", 1, lanes.fits_floats, spare=True)
    yield Kernel("depthwise_dsp", _BYTES, "dsp", accepts=_takes_planes, params=plane_tiles, scratch=plane_bytes, lead=_plane_lead)
    yield Kernel("depthwise_strip", _BYTES, "mve", None, lanes.fits_strip, lanes.strip, lanes.strip_bytes, lanes.ring_lead)
    yield Kernel("depthwise_plane", _BYTES, "mve", None, lanes.gathers, lanes.gathered, lanes.gathered_bytes, lanes.ring_lead, spare=True)
    yield _through_ring("rvv", 16, lanes.fits_floats)


def input_gradients() -> Iterator[Kernel]:
    """Of depthwise_conv2d_grad_x."""
    for dtypes in (_FLOATS, _STORED, _BYTES):
        yield Kernel("depthwise", dtypes, params=_pixel_tiles, tries=_PIXEL_TRIES, half=ALL_HALVES)
    yield from _packed(_FLOATS, half=ALL_HALVES)
    yield from _packed(_STORED, half=FIRST_HALF)
    yield from _in_place(half=FIRST_HALF)
    for simd in SIMD:
        if simd.words:
            params, scratch = partial(_ring, simd), partial(_ring_bytes, simd)
            yield Kernel("depthwise_ring", _STORED, simd.isa, None, simd.fills_channels, params, scratch, half=FIRST_HALF, spare=True)
    yield Kernel("depthwise_dsp", _BYTES, "dsp", accepts=_mirrors_planes, params=plane_tiles, scratch=plane_bytes)


def weight_gradients() -> Iterator[Kernel]:
    """Of depthwise_conv2d_grad_w."""
    for dtypes in (_FLOATS, _STORED, _BYTES):
        yield Kernel("depthwise", dtypes, params=_weight_tiles, tries=_WEIGHT_TRIES, half=ALL_HALVES)
    for dtypes in (*FLOATS, _STORED):
        for simd in SIMD:
            yield depth_outer(simd, dtypes)
            yield from _in_registers("depthwise_channel", _takes_one_channel, simd, dtypes, half=FIRST_HALF)
    yield from (depth_outer(simd, (F16, F16)) for simd in OF_HALVES)
    yield Kernel("depthwise_channel", (F16, F16), "xpulp", "depthwise_conv2d_grad_w_pairs", _takes_two_channels)
    yield Kernel("depthwise_outer_dsp", _BYTES, "dsp", accepts=takes_lines, params=line_tiles, scratch=line_bytes)


def _pixel_tiles(op: Op, *types: TensorType) -> dict[str, int]:
    # two pixels share the weights of four channels
    return {"PW": 2, "CT": split(types[0].shape[-1], 4)}


def _weight_tiles(op: Op, *types: TensorType) -> dict[str, int]:
    # nothing is shared: eight channels spread the cost of the loops
    return {"CT": split(types[0].shape[-1], 8)}


def _takes_planes(op: Depthwise, *types: TensorType) -> bool | Declined:
    g = op.geometry(*types).lined_up
    if g.cols.stride != 1 and g.cols.stride % 2:
        return no(f"its windows are {g.cols.stride} columns apart, which must be 1 or even")
    return fits_plane(g)


def _mirrors_planes(op: Depthwise, *types: TensorType) -> bool | Declined:
    g = op.geometry(*types).lined_up
    if (g.rows.stride, g.cols.stride) != (1, 1):
        return no("windows that are not next to each other leave gaps in the plane of their gradients")
    if min(g.mirrored.rows.before, g.mirrored.cols.before) < 0:
        return no("some of its windows lie in the padding")
    return fits_plane(g.mirrored)


def _plane_lead(op: Depthwise, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> int | None:
    # a channel is read as a whole before it is written, and its bytes are those of the same channel of x
    return 0 if outputs[0].dtype is inputs[0].dtype else None


def _ring(simd: Simd, op: Depthwise, *types: TensorType) -> dict[str, int]:
    g, c = op.geometry(*types).lined_up, op.correlation(*types)
    _, before, width = apart(g.cols)
    held = 1 << (c.rows.held - 1).bit_length()            # a place in it is found without a division
    return {**simd.tiles(op, *types), "before": before, "width": width, "held": min(held, g.rows.positions)}


def _ring_bytes(simd: Simd, op: Depthwise, *types: TensorType) -> int:
    p = _ring(simd, op, *types)
    return 4 * simd.lanes * (types[1].numel // types[1].shape[-1] + p["held"] * p["width"])


def _packed(dtypes: tuple[DType, ...], half: tuple[bool, ...] = ()) -> Iterator[Kernel]:
    """Vectors along the channels, the weight packed in scratch."""
    for simd in SIMD:
        yield simd.packs("depthwise_rows", dtypes, accepts=simd.fills_channels, half=half)
        if dtypes != (F32,):
            yield from _maps_in_registers(simd, dtypes, half)


def _in_place(half: tuple[bool, ...] = ()) -> Iterator[Kernel]:
    """Vectors along the channels, of the weight as it stands; where a vector is four registers, one channel at a time instead."""
    for simd in SIMD:
        for kinds in FLOATS:
            yield simd.direct("depthwise_rows", kinds, half=half)
            yield from _maps_in_registers(simd, kinds, half)
    yield from (simd.direct("depthwise_rows", (F16, F16)) for simd in OF_HALVES)


def one_channel(*kinds: tuple[DType, ...]) -> Iterator[Kernel]:
    """Of a convolution of a map of one channel: its results are those of as many depthwise ones."""
    for simd in SIMD:
        for dtypes in kinds:
            yield from _in_registers("depthwise_channel", _reads_one_channel, simd, dtypes)


def _maps_in_registers(simd: Simd, dtypes: tuple[DType, ...], half: tuple[bool, ...]) -> Iterator[Kernel]:
    """Of y or dx."""
    yield from _in_registers("depthwise_channel", _takes_one_channel, simd, dtypes, half)
    yield from _in_registers("depthwise_rolling", _rolls, simd, dtypes, half)


def _in_registers(
    template: str, accepts: Callable[..., bool | Declined], simd: Simd, dtypes: tuple[DType, ...], half: tuple[bool, ...] = ()
) -> Iterator[Kernel]:
    """Of one channel at a time, where a vector is registers side by side."""
    if simd.isa and not simd.words:
        yield Kernel(template, dtypes, simd.isa, accepts=accepts, half=half)


def _reads_one_channel(op: Depthwise, *types: TensorType) -> bool | Declined:
    channels = op.geometry(*types).C
    return _takes_one_channel(op, *types) if channels == 1 else no(f"x has {channels} channels, which must be one")


def _takes_one_channel(op: Depthwise, *types: TensorType) -> bool | Declined:
    """Its taps and a row of sums."""
    c = op.correlation(*types)
    columns, taps = len(c.cols.lines), len(c.order)
    if not (held := _holds(op, columns + taps, f"{taps} taps and {columns} columns")):
        return held
    return c.rows.stretches is not None or no("rows with the same live taps lie apart")


def _takes_two_channels(op: Depthwise, *types: TensorType) -> bool | Declined:
    """The gradients of their taps, and a row of what they are made of."""
    c = op.correlation(*types)
    if c.outer == 1:
        return no("it has one channel, which makes no pairs")
    if 2 * (len(c.cols.lines) + len(c.order)) > _PAIR_REGISTERS:
        return no(f"{len(c.order)} taps and {len(c.cols.lines)} columns of two channels are more than {_PAIR_REGISTERS} registers")
    return _takes_one_channel(op, *types)


def _rolls(op: Depthwise, *types: TensorType) -> bool | Declined:
    """Its taps and the sums of all rows that an element is a part of."""
    c = op.correlation(*types)
    columns, (R, S) = len(c.cols.lines), c.taps
    if not (held := _holds(op, R * (columns + S), f"{R * S} taps and {R} rows of {columns} columns")):
        return held
    return c.rows.slide is not None or no("a row of results does not read one row further than the row before")


def _holds(op: Depthwise, count: int, what: str) -> bool | Declined:
    if isinstance(op, ReadsPieces) and not (alone := undivided(op)):
        return alone
    return count <= _REGISTERS or no(f"{what} are more than {_REGISTERS} registers")


def _through_ring(isa: str, width: int, accepts: Callable[..., bool | Declined], spare: bool = False) -> Kernel:
    """Int8 in floats, vectors of so many channels."""
    params, scratch = partial(lanes.ring, width), partial(lanes.ring_bytes, width)
    return Kernel("depthwise_lanes", _BYTES, isa, None, accepts, params, scratch, lanes.ring_lead, spare=spare)
