# SPDX-License-Identifier: Apache-2.0
"""pack_four_bits: y = conv2d(x, w), w in flash and within four bits  ->  w' = unpack_four_bits(p); y = conv2d(x, w')

Each node that reads a weight unpacks it anew: none lies in the arena from the forward pass to the backward one. That may be the peak of
the arena: four bits are asked for where flash is short. For speed alone a weight stays int8 there; which is the peak is then estimated in
the order given, without scratch.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection

from tinytrain.ir.builder import Builder
from tinytrain.ir.graph import Graph, Program
from tinytrain.ir.types import S8, Role, Value
from tinytrain.ops.four_bits import HIGH, LOW, UnpackFourBits, packed
from tinytrain.planner.lifetimes import lifetimes
from tinytrain.planner.plan import Needs, in_use
from tinytrain.planner.updates import bind_updates

WORTH = 512                                               # weights; what unpacks fewer takes as much code as it saves


def pack_four_bits(program: Program, *, at_any_peak: bool = True) -> Program:
    """Needs fused graphs; ensures that frozen weights whose file gives them four bits, of WORTH numbers or more, lie in flash two a byte:
    all of them, or those that there is room for below the peak of the arena."""
    few = {v for v in program.stored(Role.CONST) if _is_few(v) and v.type.numel >= WORTH}
    if few and not at_any_peak:
        few = _without_peaks(program, few)
    if not few:
        return program
    stored: dict[Value, Value] = {}
    return program.map(lambda graph: _packed(graph, few, stored))


def _is_few(v: Value) -> bool:
    within = v.source.within if v.source else ()
    return v.type.dtype is S8 and bool(within) and within[0] >= LOW and within[1] <= HIGH


def a_byte_each(program: Program) -> dict[str, str]:
    """Weight whose file gives it four bits → why a number of it takes a byte all the same, in a program through this pass."""
    too_few, peak = f"of fewer than {WORTH} numbers", "unpacked, the peak of the arena"
    frozen = {v.name: too_few if v.type.numel < WORTH else peak for v in program.stored(Role.CONST) if _is_few(v)}
    return {**frozen, **{v.name: "trained" for v in program.stored(Role.PARAM) if _is_few(v)}}


def _without_peaks(program: Program, few: Collection[Value]) -> set[Value]:
    """Those that there is room for wherever they are read."""
    fixed = dict.fromkeys(program.stored(Role.PARAM, Role.STATE), 0)
    used = {
        key: in_use(lifetimes(graph, bind_updates(graph), fixed, lambda node: Needs(), 1).buffers) for key, graph in program.entries.items()
    }
    most = max(max(of_entry) for of_entry in used.values())
    free = {v: most for v in few}
    for key, graph in program.entries.items():
        for position, node in enumerate(graph.nodes):
            for v in set(node.inputs) & free.keys():
                free[v] = min(free[v], most - used[key][position])
    return {v for v, left in free.items() if v.type.nbytes <= left}


def _packed(graph: Graph, few: Collection[Value], stored: dict[Value, Value]) -> Graph:
    few = set(few) - graph.kept()
    g = Builder(graph.name, [*graph.values(), *stored.values()])
    for node in graph.nodes:
        g.origin = node.origin
        inputs = []
        for v in node.inputs:
            if v in few:
                if v not in stored:
                    assert v.data is not None, f"{v!r} is stored"
                    stored[v] = g.const(f"{v.name}_packed", packed(v.data))
                v = g.emit(UnpackFourBits(v.shape, v.type.quant), stored[v], name=v.name)
            inputs.append(v)
        g.nodes.append(dataclasses.replace(node, inputs=tuple(inputs)))
    return graph.replace(nodes=tuple(g.nodes))
