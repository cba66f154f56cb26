# SPDX-License-Identifier: Apache-2.0
"""elastic: each weight is pulled to where it started, the harder the more what the model knew depends on it (arXiv 1612.00796).

    w' = w − lr·(g + λ·F·(w − w0))       F: the share of a weight, 1 in the mean (`learn/elastic.py`); λ the strength

λ·F is at most 1/lr, which takes a weight home in one step: more would throw it beyond. It is bounded here by the rate that a firmware
starts with, so that one byte a weight in flash says enough of what is below, and in `ops/pull.py` by that of each update. w0 is in flash
anyway; nothing is in RAM.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from tinytrain.ir.types import Array, Value
from tinytrain.ops.pull import MOST


@dataclass(frozen=True, eq=False)
class Elastic:
    """`fisher` by the name of a PARAM, of its shape and for real weights."""

    strength: float
    fisher: Mapping[str, Array]

    @property
    def digest(self) -> str:
        """Of how much depends on each weight, which tells one pull from another of the same strength."""
        found = hashlib.sha256()
        for name in sorted(self.fisher):
            found.update(f"{name} {self.fisher[name].shape}".encode())
            found.update(np.ascontiguousarray(self.fisher[name], np.float64).tobytes())
        return found.hexdigest()[:12]

    def pull(self, param: Value, scale: Array, learning_rate: float) -> tuple[Array, float] | None:
        """(r, c) with c·r² the pull of each stored number, of which `scale` is the real one; None where nothing pulls."""
        if param.name not in self.fisher:
            return None
        most = 1 / learning_rate if learning_rate else np.inf
        stored = np.minimum(self.strength * self.fisher[param.name], most) * np.square(scale)
        highest = float(stored.max(initial=0.0))
        return (np.rint(MOST * np.sqrt(stored / highest)).astype(np.int8), highest / MOST**2) if highest else None
