# SPDX-License-Identifier: Apache-2.0
"""Whatever training makes of int8 weights and int32 biases, no sum of theirs leaves int32: proved before the program is built.

|Σ (x − z)·w + b| ≤ max(127 − z, z + 128)·Σ |w| + |b|, where a trained w counts 127 and a trained b 2^30: there updates saturate.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tinytrain.errors import ModelError
from tinytrain.ir.graph import Graph, Node
from tinytrain.ir.types import S8, S32, Array, Role, Value
from tinytrain.ops.integer_gradient import LIMITS
from tinytrain.ops.sums import INT32_MAX, max_accumulator


def check_sums(forward: Graph) -> None:
    """Of a forward graph whose trained values are PARAM, before fusion. Raises ModelError where a layer could overflow."""
    made, readers = forward.producers(), forward.readers()
    for node in forward.nodes:
        x, y = node.inputs[0], node.outputs[0]
        for w in (node.inputs[operand] for operand in node.op.parameters):
            if w.type.dtype is not S8 or y.type.dtype is not S32 or not _is_weight(w, made):
                continue
            biases = [n.inputs[i] for n in readers[y] if n.op.extends_layer for i in n.op.parameters if n.inputs[i] is not y]
            reach = [_reach(b, made).reshape(-1) for b in biases]
            zero_point, axis = x.type.quant.zero_point if x.type.quant else 0, (w.type.quant.axis if w.type.quant else None) or 0
            largest = max_accumulator(_reach(w, made), zero_point, axis, np.max(reach, axis=0) if reach else None)
            if largest > INT32_MAX:
                raise ModelError(
                    f"{node.origin} ({node.op.name}) in {forward.name}: training could take its sums to {largest:,}, "
                    f"more than the {INT32_MAX:,} of int32.",
                    hint="Leave its weight or its bias out of the scheme (tinytrain scheme -o writes one to edit), or train it in fp32.",
                )


def _is_weight(v: Value, made: Mapping[Value, Node]) -> bool:
    """Whether it is stored, or put together of what is; an op whose operands are both computed takes any numbers."""
    return v.data is not None or (v in made and all(_is_weight(part, made) for part in made[v].inputs))


def _reach(v: Value, made: Mapping[Value, Node]) -> Array:
    """The largest magnitude that each element of a stored value can come to have; of a value that others were put together to, theirs."""
    if v.data is None:
        node = made[v]
        return np.asarray(node.op.reference(*(_reach(part, made) for part in node.inputs))[node.outputs.index(v)])
    size = np.abs(v.data.astype(np.int64))
    return np.maximum(size, LIMITS[v.type.dtype][1]) if v.role is Role.PARAM else size
