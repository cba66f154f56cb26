# SPDX-License-Identifier: Apache-2.0
"""Which constants of a model are literals of its designer, and no stored weights."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

MOVES = ("Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity")
FLOAT = 1                                                 # element type of ONNX


def literal_values(graph: onnx.GraphProto, known: frozenset[str] = frozenset()) -> frozenset[str]:
    """Outputs of Constant nodes, shapes, and outputs of nodes that compute with nothing else, or with what is `known` to be such."""
    found = set(known)
    for node in graph.node:
        read = node.input[:1] if node.op_type == "CastLike" else node.input           # of the other one only the type
        if node.op_type in ("Shape", "Size") or all(name in found for name in read if name):
            found.update(node.output)
    return frozenset(found)


def exported_numbers(model: onnx.ModelProto) -> frozenset[str]:
    """Single numbers that PyTorch has computed: it stores them beside parameters, which keep the names that they have in the network."""
    if model.producer_name != "pytorch":
        return frozenset()
    return frozenset(t.name for t in model.graph.initializer if math.prod(t.dims) == 1 and re.fullmatch(r"val_\d+", t.name))
