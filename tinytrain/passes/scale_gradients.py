# SPDX-License-Identifier: Apache-2.0
"""scale_gradients (QAS): w' = sgd_int(g, w, factor)  ->  w' = sgd_int(g, w, factor · s⁻²)   with s the scale of the row or channel of w

A step of the real weight by −lr·G is a step of its stored image by −lr·G/s, and the gradient with respect to the image is G·s. Keeping
‖w‖/‖g‖ as in fp32 needs the factor s⁻²; for a bias, whose scale is s_w·s_x, that is (s_w·s_x)⁻² (arXiv 2206.15472, eq. 4). It goes into
the constants of the update: no cost at run time.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from tinytrain.ir.graph import Graph, Node
from tinytrain.ir.op import Declined, no
from tinytrain.ir.types import Array, Quant, Value
from tinytrain.ops.optimiser_int import SgdInt

DEAD = 2.0**-10                                           # of the largest scale of a tensor: below, a channel counts as dead


def scale_gradients(graph: Graph) -> Graph:
    """Needs updates that are not yet fused; ensures that integer updates take the step that fp32 training would."""
    return graph.map(_scaled, ops=(SgdInt,))


def _scaled(node: Node) -> Node | Declined:
    at = node.op.args.index("factor")
    weight, factor = node.inputs[node.op.args.index("w")], node.inputs[at]
    if weight.type.quant is None:
        return no(f"{weight.name} is not quantised")
    assert factor.data is not None, f"{factor!r} is no constant"
    scales = live_scales(weight.type.quant).reshape(factor.shape)
    scaled = Value(factor.name, factor.type, factor.role, (factor.data / np.square(scales)).astype(np.float32))
    return dataclasses.replace(node, inputs=(*node.inputs[:at], scaled, *node.inputs[at + 1 :]))


def live_scales(quant: Quant) -> Array:
    """Scales in float64, those of dead channels raised to DEAD of the largest: their steps would be without bound."""
    scales = np.array(quant.scale)
    return np.asarray(np.maximum(scales, DEAD * scales.max()))


def dead_channels(value: Value) -> list[int]:
    """Indices of channels whose weights are so small that their scale says nothing."""
    quant = value.type.quant
    return [] if quant is None else [int(i) for i in np.flatnonzero(np.array(quant.scale) < live_scales(quant))]
