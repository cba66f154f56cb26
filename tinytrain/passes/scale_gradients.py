# SPDX-License-Identifier: Apache-2.0
"""scale_gradients (QAS), with s the scale of the row or channel of w, of which q = w/s is stored:

    q' = sgd_int(g, q, factor)                          ->  factor · s⁻²
    q' = sgd_int(adam(g, …, factor), q, factor)         ->  factor · s⁻¹, in both

The gradient with respect to q is G·s, and a step of w by −lr·G is one of q by −lr·G/s. So one s makes the real gradient and one the stored
step; a rule that is linear in between may have both at once (arXiv 2206.15472, eq. 4), Adam's direction, which has no unit, may not. For a
bias s is s_w·s_x. It goes into the constants of the update: plain steps cost nothing more at run time. Without this pass (--no-qas)
stored numbers are taken for reals: SGD all but stands still at fp32's rate, Adam steps q, whatever it is worth, by the rate.
"""

from __future__ import annotations

import numpy as np

from tinytrain.errors import ModelError
from tinytrain.ir.graph import Graph
from tinytrain.ir.types import Array, Quant, Value
from tinytrain.ops.guarded import Guarded
from tinytrain.ops.optimiser_int import SgdInt

FP32 = np.finfo(np.float32)
DEAD = 2.0**-10                                           # of the largest scale of a tensor: below, a channel counts as dead


def scale_gradients(graph: Graph) -> Graph:
    """Needs updates that are not yet fused; ensures that integer updates take the step that fp32 training would.

    Raises ModelError where a factor is not a number of fp32.
    """
    readers = graph.readers()
    scaled: dict[Value, Value] = {}
    for node in graph.nodes:
        rule = node.op.rule if isinstance(node.op, Guarded) else node.op
        if not isinstance(rule, SgdInt):
            continue
        given = dict(zip(rule.args, node.inputs, strict=False))
        quant, factor = given["w"].type.quant, given["factor"]
        if quant is not None:
            assert factor.data is not None, f"{factor!r} is no constant"
            scales = live_scales(quant).reshape(factor.shape)
            # what the update shares with a direction is there once for the gradient and once for the step
            apart = len(readers[factor]) > 1
            data = factor.data / (scales if apart else np.square(scales))
            if not ((data >= FP32.tiny) & (data <= FP32.max)).all():
                raise _beyond(given["w"], 1 if apart else 2)
            scaled[factor] = Value(factor.name, factor.type, factor.role, data.astype(np.float32))
    return graph.substitute(scaled) if scaled else graph


def _beyond(weight: Value, power: int) -> ModelError:
    assert weight.type.quant is not None
    low, high = min(weight.type.quant.scale), max(weight.type.quant.scale)
    found = f"{low:g}" if low == high else f"{low:g} to {high:g}"
    return ModelError(
        f"{weight.name}: its scale of {found} cannot be trained with quantisation-aware scaling; "
        f"expected one whose power of -{power} is a number of fp32, {FP32.max ** (-1 / power):.2g} to {FP32.tiny ** (-1 / power):.2g}.",
        hint="Quantise the model again (tinytrain quantize), or leave this layer out of --scheme, or the scaling (--no-qas).",
    )


def live_scales(quant: Quant) -> Array:
    """Scales in float64, those of dead channels raised to DEAD of the largest: their steps would be without bound."""
    scales = np.array(quant.scale)
    return np.asarray(np.maximum(scales, DEAD * scales.max()))


def dead_channels(value: Value) -> list[int]:
    """Indices of channels whose weights are so small that their scale says nothing."""
    quant = value.type.quant
    return [] if quant is None else [int(i) for i in np.flatnonzero(np.array(quant.scale) < live_scales(quant))]
