# SPDX-License-Identifier: Apache-2.0
"""stored_input: x f32; q = quantise(x)  ->  q s8 is the input

The caller then hands over integers: a quarter of the bytes of a sample, and no buffer for them in the arena.
"""

from __future__ import annotations

import dataclasses

from tinytrain.errors import ModelError
from tinytrain.ir.graph import Graph
from tinytrain.ir.types import Role, Value
from tinytrain.ir.verify import verify
from tinytrain.ops.quantize import Quantise


def stored_input(graph: Graph, file: object) -> Graph:
    """Raises ModelError where something else than one Quantise reads the input; `file` is the model's."""
    x = graph.inputs[0]
    readers = graph.readers()[x]
    if len(readers) != 1 or not isinstance(readers[0].op, Quantise):
        raise ModelError(f"{file}: cannot take int8 samples: the input {x.name} is not quantised first.", hint="Leave out --int8-input.")
    node = readers[0]
    quantised = node.outputs[0]
    given = Value(x.name, quantised.type, Role.INPUT)
    nodes = tuple(n for n in graph.nodes if n is not node)
    taken = dataclasses.replace(graph, inputs=(given, *graph.inputs[1:])).substitute({quantised: given}, nodes)
    return verify(taken, after="stored_input")
