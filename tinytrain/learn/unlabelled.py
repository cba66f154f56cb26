# SPDX-License-Identifier: Apache-2.0
"""Losses that read no labels: what a device is given in place of them, and which samples it leaves out."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from tinytrain.data.dataset import Dataset
from tinytrain.device.manifest import Manifest
from tinytrain.gradient.objective import losses
from tinytrain.ir.types import Array, TensorType


def labelled(manifest: Manifest) -> bool:
    """Whether its loss reads targets."""
    kind = losses().get(manifest.loss or "")
    return kind is None or kind.labelled


def trusted(manifest: Manifest) -> float | None:
    """The loss above which a sample without a label is left out; None where labels are read."""
    kind = losses().get(manifest.loss or "")
    return None if kind is None or kind.labelled else kind.of().trusted(TensorType((math.prod(manifest.output.shape),)))


def stand_ins(samples: Dataset) -> Dataset:
    """With targets that nobody reads, one number a sample, as an entry point takes them: (n, 1) float32, which are no labels."""
    return replace(samples, y=np.zeros((len(samples), 1), np.float32))


def are_stand_ins(manifest: Manifest, targets: Array) -> bool:
    return targets.dtype.kind == "f" and not labelled(manifest)
