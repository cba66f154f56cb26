# SPDX-License-Identifier: Apache-2.0
"""What constants of a model are before they are folded: literals of its designer, or stored weights, and which of these are views."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

MOVES = ("Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity")
FLOAT = 1                                                 # element type of ONNX


def literal_values(graph: onnx.GraphProto, known: frozenset[str] = frozenset()) -> frozenset[str]:
    """Outputs of Constant nodes, shapes, and outputs of nodes that compute with nothing else, or with what is `known` to be such."""
    found = set(known)
    for node in graph.node:
        if node.op_type in ("Shape", "Size") or all(name in found for name in node.input if name):
            found.update(node.output)
    return frozenset(found)


def read_apart(graph: onnx.GraphProto) -> list[str]:
    """What to say of stored tensors that are read as they are and also moved (a tied Transpose): folding makes two weights of one."""
    root = {tensor.name: tensor.name for tensor in graph.initializer if tensor.data_type == FLOAT}
    views: dict[str, dict[str, None]] = {}
    for node in graph.node:
        if node.op_type in MOVES and node.input[0] in root:
            root[node.output[0]] = root[node.input[0]]
            continue
        for name in node.input:
            if name in root:
                views.setdefault(root[name], {})[name] = None
    apart = {name: list(found) for name, found in views.items() if len(found) > 1}
    return [f"{name} is read as {' and as '.join(found)}: they start alike, and are trained apart" for name, found in apart.items()]
