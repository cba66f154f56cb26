# SPDX-License-Identifier: Apache-2.0
"""What a device makes of samples: its outputs, and how good they are. Nothing is learned."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tinytrain.data.dataset import Dataset
from tinytrain.device.manifest import Manifest
from tinytrain.errors import DeviceError
from tinytrain.ir.types import S32, Array
from tinytrain.report.live import Progress

if TYPE_CHECKING:
    from tinytrain.device.session import Session


@dataclass(frozen=True, eq=False)
class Outputs:
    """`rows` are as the device gives them, (n, elements); `targets` those of the samples, (n,) labels or (n, ...), None without."""

    manifest: Manifest
    rows: Array
    targets: Array | None

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def named(self) -> dict[str, Array]:
        """As ONNX has them, float32 (n, *output shape without the batch), by name; a single one is called y."""
        names = [name for name, _ in self.manifest.output.parts] or ["y"]
        return dict(zip(names, self.manifest.output.apart(self.rows), strict=True))

    @property
    def accuracy(self) -> float | None:
        """Part of the samples whose largest output is that of the label; None where targets are no labels."""
        if self.targets is None or self.targets.dtype.kind != "i":
            return None
        return float(np.mean(self.rows.argmax(axis=1) == self.targets))

    @property
    def accuracies(self) -> dict[str, float]:
        """Of a model with several outputs: the accuracy of each whose targets are labels."""
        parts = self.manifest.targets
        if self.targets is None or not any(part.dtype is S32 for part in parts):
            return {}
        outputs = {name: array.reshape(len(array), -1) for name, array in self.named.items()}
        targets = np.split(self.targets, np.cumsum([part.count for part in parts])[:-1], axis=1)
        return {
            part.name: float(np.mean(outputs[part.name].argmax(axis=1) == target[:, 0]))
            for part, target in zip(parts, targets, strict=True) if part.dtype is S32
        }


@dataclass(frozen=True, eq=False)
class Evaluation(Outputs):
    """With the mean loss of the samples."""

    loss: float


def evaluate(session: Session, samples: Dataset, progress: Progress) -> Evaluation:
    """Loss and outputs of each sample. Raises DeviceError."""
    assert samples.y is not None
    progress.start("evaluate", len(samples))
    labels = samples.y.dtype.kind == "i"
    hits, total, rows = 0, 0.0, []
    for done, (x, target) in enumerate(zip(samples.x, samples.y, strict=True), start=1):
        loss, output = session.evaluate(x, target)
        rows.append(output)
        total += loss
        hits += int(labels and int(np.argmax(output)) == int(target))
        progress.advance(f"accuracy {hits / done:.1%}" if labels else f"loss {total / done:.4f}")
    return Evaluation(_manifest(session), _rows(rows, session), samples.y, total / max(len(samples), 1))


def infer(session: Session, samples: Dataset, progress: Progress) -> Outputs:
    """Outputs of each sample. Raises DeviceError, also where they are not as many values as the manifest says."""
    progress.start("infer", len(samples))
    rows = []
    for x in samples.x:
        rows.append(session.infer(x))
        progress.advance("")
    return Outputs(_manifest(session), _rows(rows, session), samples.y)


def _rows(found: list[Array], session: Session) -> Array:
    rows = np.array(found, np.float32).reshape(len(found), -1)
    if found and rows.shape[1] != (count := math.prod(_manifest(session).output.shape)):
        message = f"The device gave {rows.shape[1]:,} values of output, the manifest says {count:,}."
        raise DeviceError(message, hint="Compile the model again.")
    return rows


def _manifest(session: Session) -> Manifest:
    assert session.manifest is not None, "the session of a compiled project"
    return session.manifest
