# SPDX-License-Identifier: Apache-2.0
"""cascaded: each block of a frozen network has a predictor of the classes, which learns from a loss of its own (Zhao et al.,
arXiv 2303.09728).

    frozen:  x → … → f1 → … → f2 → … → scores → + → + → y          predictor i: Pi·flatten(pool(fi))
                      │         │               ↑   ↑
                      └ P1 ─────┼───────────────┘   │
                                └ P2 ───────────────┘

What all predictors say is added up; each alone has the loss of the model, so that no gradient goes through any layer but the one that it is
of. The model's own last layer is one of them. P are zero at first: a model with predictors gives what it gave without. In the paper blocks
are random, or have learned by feedback; here they are those of the model, which has learned before.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tinytrain.errors import ModelError
from tinytrain.gradient.heads import loss_of
from tinytrain.gradient.method import Goal, Step
from tinytrain.gradient.methods.beside import Beside, Side
from tinytrain.gradient.partial import Target
from tinytrain.ir.types import F32, Value
from tinytrain.onnx_graph import Chain
from tinytrain.ops.quantize import dequantised

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True)
class Cascaded(Beside):
    key = "cascaded"
    labels = True

    def network(self, graph: onnx.GraphProto, path: Path) -> Side:
        return _Predictors(graph, path, self)

    def goals(self, step: Step) -> Iterator[Goal]:
        g, readers = step.g, step.forward.readers()
        added = next(node for node in step.forward.nodes if node.origin == f"{self.prefix}added")
        made = step.forward.producers()
        own = next(v for v in added.inputs if not made[v].origin.startswith(self.prefix))
        learning: dict[Value, list[Target]] = {}
        for target in step.targets:
            node, *others = readers[target.read]
            if others:
                message = f"{step.forward.name}: --method {self.key} trains the last layer alone; {target.param.name} is read by "
                raise ModelError(f"{message}{len(others) + 1} layers.", hint="Export the model with a last layer that shares nothing.")
            learning.setdefault(node.outputs[0] if node.origin.startswith(self.prefix) else own, []).append(target)
        for scores, targets in learning.items():
            g.origin = f"{scores.name}_loss"
            reals = scores if scores.type.dtype is F32 else dequantised(g, scores)
            yield Goal(loss_of(step, reals), targets)


class _Predictors(Side):
    def emit(self, rungs: Sequence[str], count: int) -> Chain:
        side = Chain(self, "")
        for number, rung in enumerate(rungs, 1):
            before, name, grid = side.end, f"{self.prefix}{number}", self.grid([rung])
            self.pool(side, rung, grid, name)
            if grid:
                side.then("Flatten", f"{name}_flat")
            weight = np.zeros((count, self.shapes[rung][1] * math.prod(grid)), np.float32)
            side.then("Gemm", name, self.store(f"{name}.weight", weight), transB=1)
            if before:
                side.then("Add", f"{name}_sum", before)
        return side
