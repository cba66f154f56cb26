# SPDX-License-Identifier: Apache-2.0
"""Only what is trained of a weight lives in RAM; the rest stays in flash.

    y = conv2d(x, w)  →  w_whole = concat(w, w_rest); y = conv2d(x, w_whole)        w: PARAM, the trained slice; w_rest: CONST

Where several schemes train a weight, it is cut wherever one of their slices begins or ends: each trains whole pieces, and pieces of several
schemes have their optimiser's state in common.
The pass `read_pieces` then lets the kernels read the pieces where they are.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from tinytrain.ir.builder import Builder
from tinytrain.ir.graph import Graph
from tinytrain.ir.op import Want
from tinytrain.ir.types import Role, Value
from tinytrain.ops.shape import Concat, Slice
from tinytrain.schemes.choose import Trained


@dataclass(frozen=True)
class Target:
    """A PARAM, the value that the graph reads for it (itself, or the whole weight), the slice of that which it is, and its rate."""

    param: Value
    read: Value
    want: Want
    rate: float


def with_targets(forward: Graph, schemes: Sequence[Mapping[Value, Trained]]) -> tuple[Graph, list[list[Target]]]:
    """The forward graph with what any scheme trains as PARAM, partly trained weights put together from their pieces; what each trains."""
    g = Builder(forward.name, forward.values())
    wants: dict[Value, list[Want]] = {}
    for trained in schemes:
        for value, how in trained.items():
            wants.setdefault(value, []).append(how.want)
    put = {value: _put_together(g, value, asked) for value, asked in wants.items()}
    graph = forward.substitute({value: whole for value, (whole, _) in put.items()})
    targets = [
        [
            Target(param, put[value][0], piece, how.rate)
            for value, how in trained.items() for piece, param in put[value][1].items() if _holds(how.want, piece)
        ]
        for trained in schemes
    ]
    return graph.replace(nodes=(*g.nodes, *graph.nodes)), targets


def _holds(want: Want, piece: Want) -> bool:
    if want.channels is None or piece.channels is None:
        return want.channels is None or piece == Want()
    return want.channels[0] <= piece.channels[0] and piece.channels[1] <= want.channels[1]


def _put_together(g: Builder, value: Value, wants: Sequence[Want]) -> tuple[Value, dict[Want, Value]]:
    """(what the graph reads for a value, the PARAMs that this holds, by their slices)."""
    axes = {want.axis for want in wants if want.channels}
    assert len(axes) <= 1, f"{value!r} is cut along axes {axes}"
    axis = axes.pop() if axes else -1
    size = value.shape[axis] if value.shape else 1
    spans = [want.channels or (0, size) for want in wants]
    cuts = sorted({0, size, *(end for span in spans for end in span)})
    if len(cuts) == 2:
        param = dataclasses.replace(value, role=Role.PARAM)
        return param, {Want(): param}
    g.origin = value.name
    pieces: list[Value] = []
    params: dict[Want, Value] = {}
    for first, end in pairwise(cuts):
        piece = _piece(value, axis % len(value.shape), first, end)
        if any(low <= first and end <= high for low, high in spans):
            name = g.unique(value.name) if params else value.name
            piece = params[Want((first, end), axis)] = dataclasses.replace(piece, name=name, role=Role.PARAM)
        else:
            piece = dataclasses.replace(piece, name=g.unique(f"{value.name}_rest"))
        pieces.append(piece)
    return g.emit(Concat(axis % len(value.shape), len(pieces)), *pieces, name=f"{value.name}_whole"), params


def _piece(value: Value, axis: int, first: int, end: int) -> Value:
    assert value.data is not None
    (kind,) = Slice(axis, first, end).infer(value.type)
    data = np.ascontiguousarray(value.data.take(range(first, end), axis))
    source = value.source.taking(axis, range(first, end), value.shape) if value.source else None
    return Value(value.name, kind, Role.CONST, data, source)
