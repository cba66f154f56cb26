# SPDX-License-Identifier: Apache-2.0
"""Losses that read no labels: what a device is given in place of them, and which samples it learns from."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from tinytrain.data.dataset import Dataset
from tinytrain.device.manifest import Manifest
from tinytrain.device.project import Project
from tinytrain.errors import DataError, DeviceError
from tinytrain.gradient.objective import Objective, losses, losses_of
from tinytrain.ir.loss import Loss
from tinytrain.ir.types import Array, TensorType
from tinytrain.reading import reading


def labelled(manifest: Manifest) -> bool:
    """Whether its loss reads targets."""
    kind = losses().get(manifest.loss or "")
    return kind is None or kind.labelled


def loss_of(project: Project) -> Loss | None:
    """With its options; None where it has none, or several outputs have each their own. Raises DeviceError where they are not such."""
    kind, manifest = losses().get(project.manifest.loss or ""), project.folder / "manifest.json"
    with reading(manifest, "options of its loss", DeviceError, "Compile the model again."):
        return None if kind is None else kind.of(**project.manifest.loss_options)


def losses_by_output(project: Project) -> list[tuple[Loss, float]]:
    """Of a project with several outputs: the loss, and its weight, of each that has a target. Raises DeviceError where there are none."""
    manifest, path = project.manifest, project.folder / "manifest.json"
    with reading(path, "losses of its outputs", DeviceError, "Compile the model again."):
        return losses_of(Objective(manifest.loss or "", manifest.loss_options), manifest.name, [part.name for part in manifest.targets])


def bounds(project: Project, below: float | None, above: float | None) -> tuple[float, float]:
    """Losses between which a sample is learned from: given ones, an upper one of 0 is none, or those of the loss.

    Raises DataError where nothing lies between them.
    """
    loss, size = loss_of(project), math.prod(project.manifest.output.shape)
    low, high = (0.0, math.inf) if loss is None else loss.bounds(TensorType((size,)))
    low, high = low if below is None else below, high if above is None else above or math.inf
    if low >= high:
        message = f"Samples of a loss below {low:.4g} and above {high:.4g} are to be left out, which are all."
        raise DataError(message, hint="Give a --skip-above that is larger than --skip-below.")
    return low, high


def stand_ins(samples: Dataset) -> Dataset:
    """With targets that nobody reads, one number a sample, as an entry point takes them: (n, 1) float32, which are no labels."""
    return replace(samples, y=np.zeros((len(samples), 1), np.float32))


def are_stand_ins(manifest: Manifest, targets: Array) -> bool:
    return targets.dtype.kind == "f" and not labelled(manifest)
