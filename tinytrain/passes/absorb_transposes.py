# SPDX-License-Identifier: Apache-2.0
"""absorb_transposes: y = dense(reshape(transpose(x)), w)  ->  y = dense(reshape(x), w')   with the columns of w' in the order of x

ONNX flattens feature maps as C, H, W; ours are H, W, C. Permuting the weight once at compile time costs nothing at run time.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from tinytrain.ir.graph import Graph, Node
from tinytrain.ir.types import Role, Value
from tinytrain.ops.dense import Dense
from tinytrain.ops.shape import Reshape, Transpose


def absorb_transposes(graph: Graph) -> Graph:
    """Needs weights still constant (before the scheme); leaves dead transposes for drop_dead."""
    producers = graph.producers()
    readers = graph.readers()
    replaced: dict[Node, Node] = {}
    for node in graph.nodes:
        if not isinstance(node.op, Dense) or node.inputs[1].role is not Role.CONST or len(readers[node.inputs[1]]) > 1:
            continue
        flat = producers.get(node.inputs[0])
        moved = producers.get(flat.inputs[0]) if flat and isinstance(flat.op, Reshape) and len(node.inputs[0].shape) == 1 else None
        if flat is None or moved is None or not isinstance(moved.op, Transpose) or len(readers[flat.outputs[0]]) > 1:
            continue                                      # another reader of the flat value would see the other order
        weight = _permuted(node.inputs[1], moved.outputs[0].shape, moved.op.perm)
        replaced[flat] = dataclasses.replace(flat, inputs=moved.inputs)
        replaced[node] = dataclasses.replace(node, inputs=(node.inputs[0], weight))
    if not replaced:
        return graph
    return graph.replace(nodes=tuple(replaced.get(n, n) for n in graph.nodes))


def _permuted(weight: Value, moved: tuple[int, ...], perm: tuple[int, ...]) -> Value:
    """Columns of w (N, K), which follow the transposed shape `moved`, reordered to that of the tensor before `perm`."""
    assert weight.data is not None
    outs = weight.shape[0]
    back = tuple(int(i) for i in np.argsort(perm))
    data = weight.data.reshape(outs, *moved).transpose(0, *(1 + i for i in back)).reshape(weight.shape)
    source = weight.source
    if source is not None:
        if source.perm == (0, 1):
            source = dataclasses.replace(source, shape=(outs, *moved), perm=(0, *(1 + i for i in back)))
        else:
            assert source.perm == (1, 0), f"{weight!r}: {source}"
            source = dataclasses.replace(source, shape=(*moved, outs), perm=(len(moved), *back))
    return dataclasses.replace(weight, data=np.ascontiguousarray(data), source=source)
