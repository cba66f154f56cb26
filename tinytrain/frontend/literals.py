# SPDX-License-Identifier: Apache-2.0
"""Which constants of a model are part of its graph, as written by whoever designed it, and not stored weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx


def literal_values(graph: onnx.GraphProto) -> frozenset[str]:
    """Outputs of Constant nodes, and of nodes that compute with nothing else."""
    found: set[str] = set()
    for node in graph.node:
        if all(name in found for name in node.input if name):
            found.update(node.output)
    return frozenset(found)
