# SPDX-License-Identifier: Apache-2.0
"""compare: y = 1 where a stands in a relation to b, else 0; nothing does to what is no number, but for != . Steps have no gradient.

Bools are floats here: so Not, And and Or are comparisons, products and maxima, and a Cast to float is nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tinytrain.ir.op import Example, f32
from tinytrain.ir.types import F32, Array, TensorType
from tinytrain.ir.words import Words
from tinytrain.ops.elementwise import Binary

# how b stands to a where a stands so to b
MIRRORED = {"<": ">", ">": "<", "<=": ">=", ">=": "<=", "==": "==", "!=": "!="}
_NUMPY = {
    "<": np.less, ">": np.greater, "<=": np.less_equal, ">=": np.greater_equal, "==": np.equal, "!=": np.not_equal,
}


@dataclass(frozen=True)
class Compare(Binary):
    """ONNX Less, Greater, Equal, LessOrEqual, GreaterOrEqual, Not, Xor, IsNaN, IsInf."""

    relation: str = "<"

    name = "compare"
    differentiable = False

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        if any(kind.dtype is not F32 for kind in types):
            raise ValueError(f"it compares {types[0].dtype.tag} and {types[1].dtype.tag}: fp32 is expected")
        return super().infer(*types)

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        a, b = self.fitted(arrays)
        return (_NUMPY[self.relation](a, b).astype(a.dtype),)

    def lanes(self, w: Words, *operands: str) -> tuple[str, ...] | None:
        if self.relation not in ("<", ">"):
            return None
        more, less = operands if self.relation == ">" else reversed(operands)
        return (w.where(more, less, w.number(1.0), w.number(0.0)),)

    def expr(self, *operands: str) -> tuple[str, ...]:
        a, b = operands
        return (f"{a} {self.relation} {b} ? 1.0f : 0.0f",)


_OPERANDS = (((1,), (1,)), ((37,), (37,)), ((3, 5, 7), (7,)), ((4, 2, 3), (4, 1, 1)), ((13,), (1,)))
Compare.examples = (
    *(Example(Compare("<"), f32(a, b)) for a, b in _OPERANDS), Example(Compare(">"), f32((19,), (19,))),
    *(Example(Compare(relation), f32((17,), (1,))) for relation in ("<=", ">=", "==", "!=")),
)
