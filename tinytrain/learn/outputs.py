# SPDX-License-Identifier: Apache-2.0
"""What a device makes of samples: its outputs, and how good they are. Nothing is learned."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tinytrain.data.dataset import Dataset
from tinytrain.data.labels import class_names
from tinytrain.device.manifest import Manifest, TargetPart
from tinytrain.errors import DataError, DeviceError
from tinytrain.gradient.objective import Objective
from tinytrain.ir.types import S32, Array
from tinytrain.learn.unlabelled import are_stand_ins
from tinytrain.report.live import Progress
from tinytrain.report.metrics import Metric, Threshold, classes, measured, reconstruction

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from tinytrain.device.session import Session


@dataclass(frozen=True, eq=False)
class Outputs:
    """What a device gives for `samples`: `rows` as it gives them, (n, elements)."""

    manifest: Manifest
    rows: Array
    samples: Dataset

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def targets(self) -> Array | None:
        """Those of the samples: (n,) labels or (n, ...), None without."""
        return self.samples.y

    @property
    def named(self) -> dict[str, Array]:
        """As ONNX has them, float32 (n, *output shape without the batch), by name; a single one is called y."""
        names = [name for name, _ in self.manifest.output.parts] or ["y"]
        return dict(zip(names, self.manifest.output.apart(self.rows), strict=True))

    @property
    def said(self) -> dict[str, tuple[Array, tuple[str, ...]]]:
        """Of each output by its name: (rows (n, elements) as the device gives them, names of its elements where these are classes)."""
        labelled = {part.name for part in self.manifest.targets if part.dtype is S32}
        if self.manifest.target is S32 or self.samples.classes:
            labelled.add("y")
        known = self.samples.classes
        return {name: (rows, class_names(known, rows.shape[1]) if name in labelled else ()) for name, rows in self._rows.items()}

    @property
    def _rows(self) -> dict[str, Array]:
        """Of each output as the device gives it, (n, elements)."""
        parts = self.manifest.output.parts or (("y", self.manifest.output),)
        ends = np.cumsum([math.prod(port.shape) for _, port in parts])[:-1]
        return dict(zip((name for name, _ in parts), np.split(self.rows, ends, axis=1), strict=True))

    @property
    def accuracy(self) -> float | None:
        """Part of the samples whose largest output is that of the label; None where targets are no labels."""
        if self.targets is None or self.targets.dtype.kind != "i":
            return None
        return float(np.mean(self.rows.argmax(axis=1) == self.targets))

    @property
    def accuracies(self) -> dict[str, float]:
        """Of a model with several outputs: the accuracy of each whose targets are labels."""
        return {part.name: classes(rows, targets).accuracy for part, rows, targets in self._parts() if part.dtype is S32}

    def metrics(self, **how: Unpack[Threshold]) -> dict[str, Metric]:
        """How good each output is that has targets, by its name; a single one is called y.

        Above `threshold` a sample is not normal, for a model that gives back its input, or a single output says yes; it is suggested, by
        default, so that `percentile` (99) of normal samples lie below. Raises DataError where either is given without effect.
        """
        if self.targets is None or are_stand_ins(self.manifest, self.targets):
            if given := next((name for name, value in how.items() if value is not None), None):
                raise DataError(f"--{given} has no effect on samples without targets.", hint="Leave it out.")
            return {}
        if self.manifest.targets:
            return {part.name: measured(rows, targets, self._loss(part.name), **how) for part, rows, targets in self._parts()}
        targets = self.targets if self.targets.dtype.kind == "i" else self.targets.reshape(len(self), -1)
        if self.samples.itself:
            return {"y": reconstruction(self.rows, targets, self.samples.odd, **how)}
        return {"y": measured(self.rows, targets, self._loss(""), self.samples.classes, **how)}

    def _loss(self, output: str) -> str | None:
        """The kind of loss of an output; that of all outputs, or of the only one that has any."""
        items = Objective(self.manifest.loss).items if self.manifest.loss else []
        return next((key for name, key, _ in items if name == output or len(items) == 1), None)

    def _parts(self) -> Iterator[tuple[TargetPart, Array, Array]]:
        """Of a model with several outputs: (a target, what the device gives for it (n, elements), the target: (n,) labels, or alike)."""
        if self.targets is None or not self.manifest.targets:
            return
        outputs = self._rows
        ends = np.cumsum([part.count for part in self.manifest.targets])[:-1]
        for part, targets in zip(self.manifest.targets, np.split(self.targets, ends, axis=1), strict=True):
            yield part, outputs[part.name], targets[:, 0].astype(np.int32) if part.dtype is S32 else targets


@dataclass(frozen=True, eq=False, repr=False)
class Evaluation(Outputs):
    """With the mean loss of the samples."""

    loss: float

    def __repr__(self) -> str:
        accuracy = "" if self.accuracy is None else f", accuracy {self.accuracy:.2%}"
        return f"<Evaluation: loss {self.loss:.4g}{accuracy} of {len(self):,} samples>"


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
    return Evaluation(_manifest(session), _rows(rows, session), samples, total / max(len(samples), 1))


def infer(session: Session, samples: Dataset, progress: Progress) -> Outputs:
    """Outputs of each sample. Raises DeviceError, also where they are not as many values as the manifest says."""
    progress.start("infer", len(samples))
    rows = []
    for x in samples.x:
        rows.append(session.infer(x))
        progress.advance("")
    return Outputs(_manifest(session), _rows(rows, session), samples)


def _rows(found: list[Array], session: Session) -> Array:
    rows = np.array(found, np.float32).reshape(len(found), -1)
    if found and rows.shape[1] != (count := math.prod(_manifest(session).output.shape)):
        message = f"The device gave {rows.shape[1]:,} values of output, the manifest says {count:,}."
        raise DeviceError(message, hint="Compile the model again.")
    return rows


def _manifest(session: Session) -> Manifest:
    assert session.manifest is not None, "the session of a compiled project"
    return session.manifest
