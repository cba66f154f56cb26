# SPDX-License-Identifier: Apache-2.0
"""fold_pads: t = pad(x); y = conv2d(t, w)  ->  y = conv2d(pad=...)(x, w)      zeros around rows and columns only

Keras writes "same" padding like this. Windows of a convolution skip zeros that nobody has stored (of int8: zero points). Pooling keeps
its pad: an average counts them, and a maximum may be one of them.
"""

from __future__ import annotations

import dataclasses

from tinytrain.ir.graph import Graph, Node
from tinytrain.ops import shape
from tinytrain.ops.conv import Conv2d
from tinytrain.ops.depthwise import DepthwiseConv2d
from tinytrain.ops.windowed import Pad


def fold_pads(graph: Graph) -> Graph:
    """Needs the forward graph alone: gradients see one padding only. Leaves pads that nobody reads any more for drop_dead_nodes.

    A pad with a reader of another kind stays, and then the convolutions read it too: it is stored anyway.
    """
    readers, kept = graph.readers(), graph.kept()
    foldable: dict[object, Node] = {
        n.outputs[0]: n
        for n in graph.nodes
        if _surrounds(n) and n.outputs[0] not in kept and all(_convolves(r, n) for r in readers[n.outputs[0]])
    }

    def folded(node: Node) -> Node:
        pad = foldable.get(node.inputs[0]) if node.inputs else None
        if pad is None:
            return node
        assert isinstance(node.op, (Conv2d, DepthwiseConv2d)) and isinstance(pad.op, shape.Pad)
        (top, left, _), (bottom, right, _), old = pad.op.before, pad.op.after, node.op.pad
        moved = node.with_op(pad=Pad(old.top + top, old.left + left, old.bottom + bottom, old.right + right))
        return dataclasses.replace(moved, inputs=(pad.inputs[0], *node.inputs[1:]))

    return graph.replace(nodes=tuple(map(folded, graph.nodes))) if foldable else graph


def _surrounds(node: Node) -> bool:
    op = node.op
    return isinstance(op, shape.Pad) and not op.then and len(op.before) == 3 and op.before[2] == op.after[2] == 0


def _convolves(reader: Node, pad: Node) -> bool:
    """Whether the padded map is what the reader convolves, and not its weights, and the padding counts as nothing."""
    made, op = pad.outputs[0], reader.op
    if not isinstance(op, (Conv2d, DepthwiseConv2d)) or reader.inputs[0] is not made or made in reader.inputs[1:]:
        return False
    return isinstance(pad.op, shape.Pad) and pad.op.value == op.zero_point
