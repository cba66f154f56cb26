# SPDX-License-Identifier: Apache-2.0
"""check_numbers: nothing changes; constants and attributes that fp32 has no room for are refused

What is made of a model's own numbers may leave fp32, though they do not: a gradient is multiplied by the inverse of a scale of 1e-40.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from tinytrain.errors import ModelError
from tinytrain.ir.graph import Graph, Node
from tinytrain.ir.op import Op

LARGEST = float(np.finfo(np.float32).max)


def check_numbers(graph: Graph) -> Graph:
    """Needs nothing; ensures that all constants are finite. Raises ModelError; an infinite attribute is no bound, and stays."""
    for node in graph.nodes:
        if too_large := next(_beyond(node), None):
            raise ModelError(
                f"{node.origin} ({node.op.name}): its {too_large} lies beyond {LARGEST:.1e}; expected numbers that fp32 has room for.",
                hint="Lower the rate or factor that was asked for. Where a scale of the model is far too small: quantise it again, "
                "leave this layer out of the scheme, or try --no-qas.",
            )
    return graph


def _beyond(node: Node) -> Iterator[str]:
    yield from (v.name for v in node.inputs if v.data is not None and not np.isfinite(v.data).all())
    yield from _attributes(node.op)


def _attributes(op: Op) -> Iterator[str]:
    for name, value in op.attributes().items():
        parts = value if isinstance(value, tuple) else (value,)
        for part in parts:
            if isinstance(part, Op):
                yield from _attributes(part)
            elif isinstance(part, float) and not (math.isinf(part) or abs(part) <= LARGEST):
                yield name
