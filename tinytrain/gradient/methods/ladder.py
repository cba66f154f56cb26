# SPDX-License-Identifier: Apache-2.0
"""ladder: a small side network learns, the model beside it is frozen (Sung, Cho, Bansal, arXiv 2206.06522).

    frozen:   x → … → f1 → … → f2 → … → scores → + → y          hi = relu(Pi·pool(fi) + Ui·hi-1), of 1/reduction of the last map's channels
                       │         │                ↑             scores += V·flatten(hn)
    side:              └→ h1 ────┴→ h2 ───────────┘

No gradient goes into the frozen network: nothing of it is kept for a backward pass, and its maps are pooled to GRID rows and columns while
they are still int8, if they are. V is zero at first: a model with a ladder gives what it gave without.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from tinytrain.errors import ModelError
from tinytrain.gradient.method import Number
from tinytrain.gradient.methods.backprop import Backprop
from tinytrain.gradient.methods.beside import Beside, Side
from tinytrain.onnx_graph import Chain

if TYPE_CHECKING:
    import onnx

REDUCTION, RUNGS = 8, 4
SPREAD = 32                                               # steps of int8 that a typical value is away from zero


@dataclass(frozen=True)
class Ladder(Beside, Backprop):
    """The side network has 1/`reduction` of the channels of the last map, and reads the last `rungs` maps that all paths go through. 0 is
    REDUCTION or RUNGS, or what a ladder has that is there."""

    reduction: int = 0
    rungs: int = 0

    key = "ladder"
    numbers: ClassVar[tuple[Number, ...]] = (Number("by how much the side network is narrower"), Number("how many maps it reads"))

    def network(self, graph: onnx.GraphProto, path: Path) -> Side:
        return _Ladder(graph, path, self)


class _Ladder(Side):
    def __init__(self, graph: onnx.GraphProto, path: Path, method: Ladder) -> None:
        super().__init__(graph, path, method)
        self.method = method
        self.random = np.random.default_rng(0)

    def emit(self, rungs: Sequence[str], count: int) -> Chain:
        rungs = rungs[-(self.method.rungs or RUNGS) :]
        grid = self.grid(rungs)
        width = max(1, self.shapes[rungs[-1]][1] // (self.method.reduction or REDUCTION))
        side = Chain(self, "")
        for number, rung in enumerate(rungs, 1):
            self._step(side, rung, grid, width, f"{self.prefix}{number}")
        if grid:
            side.then("Flatten", f"{self.prefix}flat")
        weight = np.zeros((count, width * math.prod(grid)), np.float32)
        return side.then("Gemm", f"{self.prefix}scores", self.store(f"{self.prefix}scores.weight", weight), transB=1)

    def check(self, added: onnx.NodeProto) -> None:
        given, number = self.method, re.compile(f"{self.prefix}[0-9]+")
        shapes = [self.reals(node.input[1]).shape for node in self.proto.node if number.fullmatch(node.name)]
        (frozen,) = (name for name in added.input if not self.makers[name].name.startswith(self.prefix))
        rungs, (width, channels) = len(shapes), shapes[-1][:2]
        alike = not given.reduction or width == max(1, channels // given.reduction)
        if not alike or (given.rungs and rungs != min(given.rungs, len(self.rungs(frozen)))):
            asked = f"{self.key}:{given.reduction}{f':{given.rungs}' if given.rungs else ''}"
            raise ModelError(
                f"--method {asked} is not what {self.path} has: a ladder of {width} channels beside {channels}, which reads {rungs} maps.",
                hint="Leave the numbers out to keep it, or give the model without a ladder.",
            )

    def _step(self, side: Chain, rung: str, grid: tuple[int, ...], width: int, name: str) -> None:
        """h → relu(P·pool(rung) + U·h); there is no h yet for the first rung."""
        before, maker, scale = side.end, self.makers[rung], 1.0
        self.pool(side, rung, grid, name)
        if maker.op_type == "DequantizeLinear":
            scale = float(np.mean(self.arrays[maker.input[1]])) * SPREAD
        self._layer(side, name, self.shapes[rung][1], width, grid, scale)
        if before:
            read, side.end = side.end, before
            self._layer(side, f"{name}_up", width, width, grid).then("Add", f"{name}_sum", read)
        side.then("Relu", f"{name}_relu")

    def _layer(self, side: Chain, name: str, channels: int, width: int, grid: tuple[int, ...], scale: float = 1.0) -> Chain:
        """Conv 1x1, or Gemm for rows; `scale` is the size of what it reads."""
        weight = self.random.normal(0, math.sqrt(2 / channels) / scale, (width, channels, *(1 for _ in grid)))
        stored = self.store(f"{name}.weight", weight.astype(np.float32))
        return side.then("Conv", name, stored) if grid else side.then("Gemm", name, stored, transB=1)
