# SPDX-License-Identifier: Apache-2.0
"""How good outputs are, by what the targets of samples are: classes, yes or no, numbers, or the samples themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, TypedDict

import numpy as np

from tinytrain.data.labels import class_names
from tinytrain.errors import DataError
from tinytrain.ir.types import Array

if TYPE_CHECKING:
    from typing_extensions import Unpack

PERCENTILE = 99.0                                         # of the errors of normal samples, below a suggested threshold
LOGIT, PROBABILITY = 0.0, 0.5                             # from which on an output says yes


@dataclass(frozen=True, eq=False)
class Classes:
    """`confusion` (classes, classes) counts samples by their label and by the largest output. What is divided by 0 is not a number.

    `auc` is that of two classes by the difference of their outputs; None of more, or where samples are of one class only.
    """

    kind: ClassVar[str] = "classes"
    names: tuple[str, ...]
    confusion: Array
    auc: float | None = None

    @property
    def count(self) -> int:
        return int(self.confusion.sum())

    @property
    def accuracy(self) -> float:
        return float(np.trace(self.confusion) / max(self.count, 1))

    @property
    def precision(self) -> Array:
        """(classes,): the part of what is taken for a class that is of it."""
        return _ratio(np.diag(self.confusion), self.confusion.sum(axis=0))

    @property
    def recall(self) -> Array:
        """(classes,): the part of a class that is taken for it."""
        return _ratio(np.diag(self.confusion), self.confusion.sum(axis=1))

    @property
    def f1(self) -> Array:
        """(classes,): the harmonic mean of precision and recall."""
        return _ratio(2 * np.diag(self.confusion), self.confusion.sum(axis=0) + self.confusion.sum(axis=1))

    def plain(self) -> dict[str, Any]:
        """For JSON, which has no NaN: None."""
        rows = zip(self.names, self.confusion.sum(axis=1), self.precision, self.recall, self.f1, strict=True)
        each = [
            {"class": name, "samples": int(count), "precision": _plain(precision), "recall": _plain(recall), "f1": _plain(f1)}
            for name, count, precision, recall, f1 in rows
        ]
        return {"kind": self.kind, "accuracy": self.accuracy, "auc": self.auc, "classes": each, "confusion": self.confusion.tolist()}


@dataclass(frozen=True, eq=False)
class Binary:
    """Outputs that say yes above `threshold`. `confusion` (2, 2) counts them by what is so and by what is said, first no, then yes.

    `auc` is that of all outputs; None where all are so, or none.
    """

    kind: ClassVar[str] = "binary"
    threshold: float
    confusion: Array
    auc: float | None

    @property
    def accuracy(self) -> float:
        return float(np.trace(self.confusion) / max(int(self.confusion.sum()), 1))

    @property
    def precision(self) -> float:
        return float(_ratio(self.confusion[1, 1], self.confusion[:, 1].sum()))

    @property
    def recall(self) -> float:
        return float(_ratio(self.confusion[1, 1], self.confusion[1].sum()))

    def plain(self) -> dict[str, Any]:
        return {
            "kind": self.kind, "threshold": self.threshold, "accuracy": self.accuracy, "precision": _plain(self.precision),
            "recall": _plain(self.recall), "auc": self.auc, "confusion": self.confusion.tolist(),
        }


@dataclass(frozen=True, eq=False)
class Errors:
    """Of numbers: `mse`, `mae` and `r2` (outputs,), the last not a number where a target never changes."""

    kind: ClassVar[str] = "numbers"
    mse: Array
    mae: Array
    r2: Array

    def plain(self) -> dict[str, Any]:
        return {
            "kind": self.kind, "mse": float(self.mse.mean()), "mae": float(self.mae.mean()),
            "outputs": [{"mse": float(s), "mae": float(a), "r2": _plain(r)} for s, a, r in zip(self.mse, self.mae, self.r2, strict=True)],
        }


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """`errors` (n,): the mean squared difference between a sample and what a model gives back of it. `odd` (n,) where that is known.

    `threshold` is the least error that `percentile` of the normal samples do not exceed, of all where nobody knows which are normal;
    None of `percentile` where it was given.
    """

    kind: ClassVar[str] = "reconstruction"
    errors: Array
    odd: Array | None
    threshold: float
    percentile: float | None

    @property
    def auc(self) -> float | None:
        """How often what is odd has a greater error than what is normal; None where there is not both."""
        return None if self.odd is None else area(self.errors, self.odd)

    @property
    def found(self) -> float | None:
        """The part of odd samples above the threshold."""
        return self._above(self.odd)

    @property
    def alarms(self) -> float | None:
        """The part of normal samples above it."""
        return self._above(None if self.odd is None else ~self.odd)

    def _above(self, chosen: Array | None) -> float | None:
        return float(np.mean(self.errors[chosen] > self.threshold)) if chosen is not None and chosen.any() else None

    def plain(self) -> dict[str, Any]:
        return {
            "kind": self.kind, "mse": float(self.errors.mean()), "threshold": self.threshold, "percentile": self.percentile,
            "auc": self.auc, "found": self.found, "false_alarms": self.alarms, "errors": self.errors.tolist(),
        }


Metric = Classes | Binary | Errors | Reconstruction


def classes(outputs: Array, labels: Array, names: Sequence[str] = ()) -> Classes:
    """outputs (n, classes), labels (n,) int. Classes without a name are called by their number."""
    count = outputs.shape[1]
    confusion = np.zeros((count, count), np.int64)
    np.add.at(confusion, (labels, outputs.argmax(axis=1)), 1)
    auc = area(outputs[:, 1] - outputs[:, 0], labels == 1) if count == 2 else None
    return Classes(class_names(names, count), confusion, auc)


def binary(outputs: Array, targets: Array, threshold: float | None = None) -> Binary:
    """outputs and targets alike, targets 0 or 1. Outputs that all lie in 0 to 1 are taken as probabilities, others as logits."""
    if threshold is None:
        threshold = PROBABILITY if 0 <= outputs.min() <= outputs.max() <= 1 else LOGIT
    is_so, said = targets.reshape(-1) > 0.5, outputs.reshape(-1) > threshold
    confusion = np.zeros((2, 2), np.int64)
    np.add.at(confusion, (is_so.astype(int), said.astype(int)), 1)
    return Binary(threshold, confusion, area(outputs.reshape(-1), is_so))


def errors(outputs: Array, targets: Array) -> Errors:
    """outputs and targets alike, (n, outputs)."""
    apart = outputs.astype(np.float64) - targets
    mse = np.mean(apart**2, axis=0)
    return Errors(mse, np.mean(np.abs(apart), axis=0), 1 - _ratio(mse, np.var(targets.astype(np.float64), axis=0)))


class Threshold(TypedDict, total=False):
    """What says that a sample is not normal, or an output yes: above `threshold`; or what `percentile` of normal samples lie below."""

    percentile: float | None
    threshold: float | None


def reconstruction(outputs: Array, samples: Array, odd: Array | None = None, **how: Unpack[Threshold]) -> Reconstruction:
    """outputs and samples alike, (n, elements); `odd` (n,) bool. Raises DataError where both a threshold and a percentile are given."""
    percentile, threshold = how.get("percentile"), how.get("threshold")
    if percentile is not None and threshold is not None:
        raise DataError("--percentile has no effect beside --threshold.", hint="Leave one of them out.")
    found = np.mean((outputs.astype(np.float64) - samples) ** 2, axis=1)
    if threshold is not None:
        return Reconstruction(found, odd, threshold, None)
    normal = found if odd is None or odd.all() else found[~odd]
    percentile = PERCENTILE if percentile is None else percentile
    return Reconstruction(found, odd, float(np.percentile(normal, percentile, method="higher")), percentile)


def measured(outputs: Array, targets: Array, loss: str | None, names: Sequence[str] = (), **how: Unpack[Threshold]) -> Metric:
    """What suits the targets: (n,) int labels, (n, outputs) of one-hot rows or of 0 and 1, or any numbers. outputs are (n, outputs).

    Raises DataError where a threshold or percentile is given that has no effect.
    """
    threshold = how.get("threshold")
    if targets.dtype.kind == "i":
        found: Metric = classes(outputs, targets, names)
    elif set(np.unique(targets)) <= {0, 1}:
        if loss != "bce" and targets.shape[1] > 1 and (targets.sum(axis=1) == 1).all():
            found = classes(outputs, targets.argmax(axis=1), names)
        else:
            # other losses than that of logits make outputs that lie around 0 and 1
            found = binary(outputs, targets, PROBABILITY if threshold is None and loss != "bce" else threshold)
    else:
        found = errors(outputs, targets)
    for option, given in how.items():
        if given is not None and not (option == "threshold" and isinstance(found, Binary)):
            message = f"--{option} has no effect on outputs that are measured as {found.kind}."
            raise DataError(message, hint="Leave it out: it is for models that give back their own input.")
    return found


def area(scores: Array, positive: Array) -> float | None:
    """Area under the ROC curve: how often a positive has the greater score of a pair, where a tie counts half; None without both kinds."""
    yes, no = int(positive.sum()), int((~positive).sum())
    if not yes or not no:
        return None
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[place]                 # from 1 on, the mean one of a tie
    return float((ranks[positive].sum() - yes * (yes + 1) / 2) / (yes * no))


def _ratio(part: Array, whole: Array) -> Array:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(np.asarray(whole) != 0, np.asarray(part) / np.asarray(whole), np.nan)


def _plain(number: float) -> float | None:
    return None if np.isnan(number) else float(number)
