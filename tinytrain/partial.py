# SPDX-License-Identifier: Apache-2.0
"""Only what is trained of a weight lives in RAM; the rest stays in flash.

    y = conv2d(x, w)  →  w_whole = concat(w, w_rest); y = conv2d(x, w_whole)        w: PARAM, the trained slice; w_rest: CONST

The pass `read_pieces` then lets the kernels read the pieces where they are.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

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


def with_targets(forward: Graph, trained: Mapping[Value, Trained]) -> tuple[Graph, list[Target]]:
    """The forward graph with what is trained as PARAM, and partly trained weights put together from their pieces."""
    g = Builder(forward.name, forward.values())
    targets = []
    reads: dict[Value, Value] = {}
    for value, how in trained.items():
        if how.want.channels is None:
            reads[value] = dataclasses.replace(value, role=Role.PARAM)
            targets.append(Target(reads[value], reads[value], how.want, how.rate))
            continue
        param, whole = _put_together(g, value, how.want)
        reads[value] = whole
        targets.append(Target(param, whole, how.want, how.rate))
    graph = forward.substitute(reads)
    return graph.replace(nodes=(*g.nodes, *graph.nodes)), targets


def _put_together(g: Builder, value: Value, want: Want) -> tuple[Value, Value]:
    assert want.channels is not None
    axis = want.axis % len(value.shape)
    (first, end), size = want.channels, value.shape[axis]
    param = dataclasses.replace(_piece(value, axis, first, end), name=value.name, role=Role.PARAM)
    rests = {bounds: _piece(value, axis, *bounds) for bounds in ((0, first), (end, size)) if bounds[0] < bounds[1]}
    if not rests:
        return param, param
    g.origin = value.name
    named = {bounds: dataclasses.replace(rest, name=g.unique(f"{value.name}_rest")) for bounds, rest in rests.items()}
    pieces = [piece for _, piece in sorted({**named, (first, end): param}.items())]
    return param, g.emit(Concat(axis, len(pieces)), *pieces, name=f"{value.name}_whole")


def _piece(value: Value, axis: int, first: int, end: int) -> Value:
    assert value.data is not None
    (kind,) = Slice(axis, first, end).infer(value.type)
    data = np.ascontiguousarray(value.data.take(range(first, end), axis))
    source = value.source.taking(axis, range(first, end), value.shape) if value.source else None
    return Value(value.name, kind, Role.CONST, data, source)
