# SPDX-License-Identifier: Apache-2.0
"""Learned rounding: up or down, whichever keeps the output of the layer, not the weight, closest.

w = s·(⌊W/s⌋ + h(v)),  h(v) = clip(1.2·σ(v) − 0.1, 0, 1)
minimise  ‖X̂·wᵀ − X·Wᵀ‖² + λ·Σ (1 − |2h − 1|^β)   over v,  β falling from 20 to 2        (Nagel et al., arXiv 2004.10568)

X are the inputs of the float32 layer and X̂ those of the int8 one, as in AdaQuant (Hubara et al., arXiv 2006.10518).
Expanded, the first term is w·G·wᵀ − 2·w·c + const with G = X̂ᵀX̂ and c = X̂ᵀXWᵀ: the gradient is exact over all samples
and costs the same for any number of them. Both sides are taken about their means, as the bias takes up what is constant.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tinytrain.ir.types import Array

STEPS = 1000
RATE = 0.05
WEIGHT = 0.3
WARM_UP = 0.2


@dataclass(eq=False)
class Moments:
    """Sums over all positions of all samples: of X̂ᵀX̂ (G, F, F), X̂ᵀY (G, F, N), and of X̂ and Y."""

    gram: Array
    cross: Array
    x_sum: Array
    y_sum: Array
    count: int = 0

    @classmethod
    def empty(cls, groups: int, features: int, rows: int) -> Moments:
        gram, cross = np.zeros((groups, features, features)), np.zeros((groups, features, rows))
        return cls(gram, cross, np.zeros((groups, features)), np.zeros((groups, rows)))

    def add(self, x: Array, y: Array) -> None:
        """Patches (G, P, F) of the int8 layer and outputs (G, P, N) of the float32 one, of one sample."""
        turned = x.transpose(0, 2, 1)
        self.gram += turned @ x
        self.cross += turned @ y
        self.x_sum += x.sum(axis=1)
        self.y_sum += y.sum(axis=1)
        self.count += x.shape[1]

    def centred(self) -> tuple[Array, Array]:
        """(G, c) as covariances."""
        x, y = self.x_sum / self.count, self.y_sum / self.count
        return self.gram / self.count - x[:, :, None] * x[:, None, :], self.cross / self.count - x[:, :, None] * y[:, None, :]


def learn(rows: Array, scales: Array, moments: Moments, most: int = 127) -> Array:
    """int8 (G, N, F) within ±most for weights (G, N, F) and scales (G, N). A row for which nearest rounding does better keeps that."""
    gram, cross = moments.centred()
    step = scales[:, :, None].astype(np.float64)
    exact = rows / step
    target = cross.transpose(0, 2, 1) / step
    low, high = np.clip(np.floor(exact), -most, most), np.clip(np.floor(exact) + 1, -most, most)
    size = np.maximum(np.trace(gram, axis1=1, axis2=2) / gram.shape[1], 1e-30)[:, None, None]
    v = _start(np.clip(exact - low, 0.01, 0.99))
    mean, square = np.zeros_like(v), np.zeros_like(v)
    for i in range(1, STEPS + 1):
        sigmoid = 1 / (1 + np.exp(-v))
        h = np.clip(1.2 * sigmoid - 0.1, 0, 1)
        w = low + h * (high - low)
        slope = 2 * (w @ gram - target) / size * (high - low)
        done = (i / STEPS - WARM_UP) / (1 - WARM_UP)
        if done > 0:
            beta = 2 + 9 * (1 + np.cos(np.pi * done))
            away = 2 * h - 1
            slope -= WEIGHT * 2 * beta * np.sign(away) * np.abs(away) ** (beta - 1)
        slope *= np.where((h > 0) & (h < 1), 1.2 * sigmoid * (1 - sigmoid), 0)
        mean, square = 0.9 * mean + 0.1 * slope, 0.999 * square + 0.001 * slope**2
        v -= RATE * (mean / (1 - 0.9**i)) / (np.sqrt(square / (1 - 0.999**i)) + 1e-8)
    learned = np.where(1.2 / (1 + np.exp(-v)) - 0.1 > 0.5, high, low)
    plain = np.clip(np.rint(exact), -most, most)
    better = _loss(learned, gram, target) < _loss(plain, gram, target)
    return np.where(better[:, :, None], learned, plain).astype(np.int8)


def _start(fraction: Array) -> Array:
    """v with h(v) = fraction: learning starts from the exact weight."""
    p = (fraction + 0.1) / 1.2
    return np.log(p / (1 - p))


def _loss(w: Array, gram: Array, target: Array) -> Array:
    """(G, N): w·G·wᵀ − 2·w·c in steps of the scale."""
    loss: Array = ((w @ gram - 2 * target) * w).sum(axis=-1)
    return loss
