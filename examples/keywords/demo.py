# SPDX-License-Identifier: Apache-2.0
"""A keyword spotter learns the voice of its user from three examples of each word. Words are synthetic: two formants on their ways.

    python examples/keywords/demo.py [BOARD]
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
FRAMES, BANDS, WORDS = 24, 10, 6                          # 24 frames of 10 log energies of a filter bank, as an audio front end gives them
LISTENED, ENROLLED = 30, 18                               # as in main.c
FACTORY = 480

# First and second formant at the beginning and at the end of each word, Hz.
FORMANTS = ((300, 700, 2300, 1200), (700, 300, 1200, 2300), (500, 500, 1000, 1900), (300, 300, 2300, 900), (700, 700, 1800, 1100),
            (500, 800, 2100, 1500))
CENTRES = np.geomspace(200, 4000, BANDS)

GRAPH = """keywords (float[1, 1, 24, 10] x) => (float[1, 6] y) {
    a = Conv <pads = [1, 1, 1, 1], strides = [2, 2]> (x, conv1_weight, conv1_bias)
    b = Relu (a)
    c = Conv <pads = [1, 1, 1, 1], strides = [2, 2]> (b, conv2_weight, conv2_bias)
    d = Relu (c)
    e = Flatten (d)
    y = Gemm <transB = 1> (e, fc_weight, fc_bias)
}"""


def word(which: int, tract: float, rng: np.random.Generator) -> Array:
    """One word (frames, bands); `tract` scales all formants, as the length of a speaker's vocal tract does."""
    first, first_end, second, second_end = FORMANTS[which]
    t = np.clip((np.arange(FRAMES) - rng.uniform(1, 5)) / rng.uniform(14, 18), 0, 1)
    voiced = ((t > 0) & (t < 1)).astype(float)
    energy = np.zeros((FRAMES, BANDS))
    for begin, end, loudness in ((first, first_end, 1.0), (second, second_end, 0.6)):
        formant = (begin + (end - begin) * t) * tract * rng.normal(1, 0.03)
        energy += loudness * np.exp(-((np.log(CENTRES[None] / formant[:, None]) / 0.22) ** 2))
    return np.log(0.05 + energy * voiced[:, None] * rng.uniform(0.6, 1.4)) + 2 + rng.normal(0, 0.25, energy.shape)


def spoken(labels: Array, tracts: Array, seed: int) -> Dataset:
    rng = np.random.default_rng(seed)
    x = np.stack([word(int(which), float(tract), rng) for which, tract in zip(labels, tracts, strict=True)])
    return Dataset(x.astype(np.float32), labels.astype(np.int32))


def example() -> Example:
    rng = np.random.default_rng(0)
    factory = spoken(rng.integers(0, WORDS, FACTORY), rng.choice([0.9, 0.95, 1.0, 1.05, 1.1], FACTORY), 1)
    listened = rng.integers(0, WORDS, 2 * LISTENED)
    said = np.concatenate([listened[:LISTENED], np.arange(ENROLLED) % WORDS, listened[LISTENED:]])
    weights = {"conv1_weight": (8, 1, 3, 3), "conv1_bias": (8,), "conv2_weight": (12, 8, 3, 3), "conv2_bias": (12,),
               "fc_weight": (WORDS, 12 * 6 * 3), "fc_bias": (WORDS,)}
    return Example(
        "keywords", GRAPH, weights, Dataset(factory.x[..., None], factory.y), spoken(said, np.full(len(said), 1.45), 2), "full", rate=0.01,
        factory_rate=0.003, factory_epochs=5,
    )


if __name__ == "__main__":
    print(*run(example(), *(sys.argv[1:] or ["netduinoplus2"]), OUT), sep="\n")
