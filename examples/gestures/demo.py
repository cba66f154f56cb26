# SPDX-License-Identifier: Apache-2.0
"""A wearable learns the gestures of its user, who wears it the other way round, from a button that says what each gesture was.

    python examples/gestures/demo.py [BOARD]
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from onboard import Example, run

from tinytrain.data.dataset import Dataset
from tinytrain.ir.types import Array

OUT = Path(__file__).parent / "out"
FRAMES, GESTURES = 32, 4                                  # 32 frames at 25 Hz; shake, circle, lift, tap
HIDDEN = 10                                               # as many as 8 KB of RAM have room for
FACTORY, USED = 400, 192

GRAPH = """gestures (float[1, 1, 32, 3] x) => (float[1, 4] y) {
    a = Flatten (x)
    b = Gemm <transB = 1> (a, fc1_weight, fc1_bias)
    c = Relu (b)
    y = Gemm <transB = 1> (c, fc2_weight, fc2_bias)
}"""


def gesture(kind: int, rng: np.random.Generator) -> Array:
    """One window (frames, 3 axes) in g without gravity, of a person's strength, speed and hesitation."""
    t = np.linspace(0, 1, FRAMES) - rng.uniform(0, 0.15)
    strength, speed, phase = rng.uniform(0.6, 1.3), rng.uniform(0.8, 1.25), rng.uniform(-0.6, 0.6)
    wave, quarter = (np.sin(2 * np.pi * 3 * speed * t + shift + phase) for shift in (0, np.pi / 2))
    bump = np.sin(np.pi * np.clip(t * 1.5 * speed, 0, 1)) * np.cos(2 * np.pi * t)
    tap = np.exp(-(((t - 0.4) / 0.04) ** 2))
    none = np.zeros(FRAMES)
    axes = ((wave, none, none), (0.7 * wave, 0.7 * quarter, none), (none, none, bump), (none, none, 1.5 * tap))[kind]
    return strength * np.stack(axes, axis=1) + rng.normal(0, 0.12, (FRAMES, 3))


def recorded(count: int, seed: int, worn: Array) -> Dataset:
    """`worn` turns the axes of the hand into those of the sensor."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, GESTURES, count).astype(np.int32)
    x = np.stack([gesture(int(kind), rng) @ worn.T for kind in y]).astype(np.float32)
    return Dataset(x, y)


UPRIGHT, TURNED = np.eye(3), np.array([[0.0, 0.0, 1.0], [0.5, 0.866, 0.0], [-0.866, 0.5, 0.0]])


def example() -> Example:
    factory = recorded(FACTORY, 1, UPRIGHT)
    weights = {"fc1_weight": (HIDDEN, FRAMES * 3), "fc1_bias": (HIDDEN,), "fc2_weight": (GESTURES, HIDDEN), "fc2_bias": (GESTURES,)}
    return Example(
        "gestures", GRAPH, weights, Dataset(factory.x[:, None], factory.y), recorded(USED, 2, TURNED), "full",
        rate=0.03, factory_rate=0.005, factory_epochs=6,
    )


if __name__ == "__main__":
    print(*run(example(), *(sys.argv[1:] or ["netduinoplus2"]), OUT), sep="\n")
