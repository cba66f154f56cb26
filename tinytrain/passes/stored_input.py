# SPDX-License-Identifier: Apache-2.0
"""stored_input: x f32; q = quantise(x)  ->  q s8 is the input

The caller then hands over integers: a quarter of the bytes of a sample, and no buffer for them in the arena.
"""

from __future__ import annotations

import dataclasses

from tinytrain.ir.graph import Graph
from tinytrain.ir.op import Declined, no
from tinytrain.ir.types import Role, Value
from tinytrain.ops.quantize import Quantise


def stored_input(graph: Graph) -> Graph | Declined:
    """Needs an input that nothing but a Quantise reads."""
    x = graph.inputs[0]
    readers = graph.readers()[x]
    if len(readers) != 1 or not isinstance(readers[0].op, Quantise):
        return no(f"the input {x.name} is not quantised first")
    node = readers[0]
    quantised = node.outputs[0]
    given = Value(x.name, quantised.type, Role.INPUT)
    nodes = tuple(n for n in graph.nodes if n is not node)
    return dataclasses.replace(graph, inputs=(given, *graph.inputs[1:])).substitute({quantised: given}, nodes)
