# SPDX-License-Identifier: Apache-2.0
"""adagrad: h' = h + g²;                  direction = g / (√h' + ε)
rmsprop: v' = α·v + (1 − α)·g²;           direction = g / (√v' + ε)

Duchi, Hazan and Singer, "Adaptive Subgradient Methods" (2011); Tieleman and Hinton, lecture 6.5 of "Neural Networks for Machine Learning"
(2012). A momentum of RMSProp is that of the SGD which follows the direction.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from tinytrain.ir.op import Example, f32
from tinytrain.ir.types import Array
from tinytrain.ir.words import literal
from tinytrain.ops.direction import Adaptive, root


@dataclass(frozen=True)
class Adagrad(Adaptive):
    """g, h (same shape) [, w] [, factor] -> direction, h' [, 0]."""

    epsilon: float = 1e-10

    name = "adagrad"
    keeps = {"h": "square"}

    def follow(self, g: Array, given: Mapping[str, Array]) -> tuple[Array, ...]:
        h = given["h"] + g * g
        return g / (np.sqrt(np.abs(h)) + g.dtype.type(self.epsilon)), h

    def formula(self, g: str, *operands: str) -> tuple[str, ...]:
        h = f"({operands[0]} + {g} * {g})"
        return f"{g} / ({root(h)} + {literal(self.epsilon)})", h


@dataclass(frozen=True)
class RmsProp(Adaptive):
    """g, v (same shape) [, w] [, factor] -> direction, v' [, 0]."""

    alpha: float = 0.99
    epsilon: float = 1e-8

    name = "rmsprop"
    keeps = {"v": "square"}

    def follow(self, g: Array, given: Mapping[str, Array]) -> tuple[Array, ...]:
        real = g.dtype.type
        v = real(self.alpha) * given["v"] + real(1 - self.alpha) * g * g
        return g / (np.sqrt(np.abs(v)) + real(self.epsilon)), v

    def formula(self, g: str, *operands: str) -> tuple[str, ...]:
        v = f"({literal(self.alpha)} * {operands[0]} + {literal(1 - self.alpha)} * {g} * {g})"
        return f"{g} / ({root(v)} + {literal(self.epsilon)})", v


for _rule in (Adagrad, RmsProp):
    _rule.examples = (
        Example(_rule(), f32((5, 3), (5, 3)), reals=(1.0, 1.25)),
        Example(_rule(scale=0.25, clear=True, decay=0.1), f32((7,), (7,), (7,)), reals=(1.0, 1.25)),
        Example(_rule(epsilon=0.5, factored=True), f32((4, 3, 2), (4, 3, 2), (4, 1, 1))),
        Example(_rule(epsilon=0.5, scale=0.5, clear=True), f32((1,), (1,))),
    )
