# SPDX-License-Identifier: Apache-2.0
"""backprop: the gradient of the model's loss with respect to all that is trained. What gradients read of the forward pass is kept."""

from __future__ import annotations

from collections.abc import Iterator

from tinytrain.gradient.method import Goal, Method, Step


class Backprop(Method):
    key = "backprop"

    def goals(self, step: Step) -> Iterator[Goal]:
        yield Goal(step.loss, step.targets)
