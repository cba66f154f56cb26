# SPDX-License-Identifier: Apache-2.0
"""green: back-propagation of the scheme that pays best just now, which the device finds out itself, again and again.

Of every `every` steps the first ones try the schemes in turn: each trains a sample, which is then evaluated again. The scheme under which
losses fell most for what a step of it costs trains until the next trials. How much a loss falls is what Huang et al., "Towards Green AI in
Fine-tuning Large Language Models via Adaptive Backpropagation" (arXiv 2309.13192), call the importance of tensors and tell from gradients;
measured, it holds for any optimiser and rounding, and no gradient needs to be kept for it. What a step costs is known when it is compiled.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from tinytrain.errors import ModelError
from tinytrain.gradient.method import Number
from tinytrain.gradient.methods.backprop import Backprop
from tinytrain.ir.graph import CHOICE, FALLS, TRIALS, Graph, Program
from tinytrain.ir.types import F32, S32, DType, Role, TensorType, Value


@dataclass(frozen=True)
class Green(Backprop):
    """The device chooses every `every` steps."""

    every: int = 200

    key = "green"
    chooses = True
    numbers = (Number("after how many steps the device chooses anew", most=10**6),)

    def check(self, grad: str, dtype: str, schemes: int, accumulate: int, replay: bool) -> None:
        if schemes < 2:
            raise ModelError(
                f"--method green chooses among the schemes that are compiled; {schemes} is given.",
                hint="Give several, as --scheme head --scheme last:3 --scheme full.",
            )
        if accumulate > 1:
            message = f"--method green sees what a step has done to its sample; with --accumulate {accumulate} most steps do nothing yet."
            raise ModelError(message, hint="Leave out --accumulate, or --method.")
        if self.every <= TRIALS * schemes:
            message = f"--method green:{self.every} leaves nothing beside trials: {TRIALS} steps for each of {schemes} schemes."
            raise ModelError(message, hint=f"Choose less often, as --method green:{10 * TRIALS * schemes}.")

    def finish(self, program: Program) -> Program:
        """The sample stays in memory until the step is done, and what the device has found out is kept beside the optimiser's state."""
        trains = program.trains
        kept = [_state(CHOICE, 2 + len(trains), S32), _state(FALLS, len(trains), F32)]

        def remembering(graph: Graph) -> Graph:
            return graph.replace(outputs=(*graph.outputs, graph.inputs[0]), updates={**graph.updates, **{v: v for v in kept}})

        entries = {key: remembering(graph) if key in trains else graph for key, graph in program.entries.items()}
        return dataclasses.replace(program, entries=entries, every=self.every)


def _state(name: str, count: int, dtype: DType) -> Value:
    return Value(name, TensorType((count,), dtype), Role.STATE, np.zeros(count, dtype.np))
