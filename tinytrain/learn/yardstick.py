# SPDX-License-Identifier: Apache-2.0
"""What came of training: some of the samples it learns from, measured before it begins and after each epoch.

For whether it made things worse, samples that are held back would not do: a small model that learns them by heart may lose on others
without end, and is not broken. Whether it tells samples apart at all, either may show.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tinytrain.data.dataset import Dataset
from tinytrain.device.project import Project
from tinytrain.errors import LearningError
from tinytrain.ir.loss import Loss
from tinytrain.ir.types import S32, Array
from tinytrain.learn.state import Epoch
from tinytrain.learn.unlabelled import labelled, loss_of, losses_by_output

if TYPE_CHECKING:
    from tinytrain.device.session import Session

SAMPLES = 50
TELLING = 30                                              # samples; what fewer say of a model may be chance
WORSE = 2.0                                               # times the loss before training, or that of a model that knows nothing
ONE = 0.9                                                 # of the samples: a model without labels says nearly always the same
KNOWS = 0.9                                               # of the loss of saying what is usual: below it something was learned
VARIES = 0.99                                             # the same where targets are numbers, most of which may be noise
SAME = 1e-6                                               # of the largest output
SURE = 2.33                                               # standard deviations: chance has more samples right in one of a hundred trainings
HINT = "Train with a lower learning rate (--lr), or scale the samples as the model expects them."


class Diverged(LearningError):
    """The loss grew out of all numbers, or far beyond what it was before training."""


@dataclass(frozen=True, eq=False)
class Measure:
    """What a model makes of the samples of a yardstick: mean loss, outputs (n, elements), how many of them have the right label, if any."""

    loss: float
    outputs: Array
    right: int | None

    @property
    def says(self) -> tuple[int, int]:
        """The class that is said of most samples, and of how many."""
        counts = np.bincount(self.outputs.argmax(axis=1))
        return int(counts.argmax()), int(counts.max())

    @property
    def same(self) -> bool:
        """Whether the outputs are the same for all samples, but for rounding."""
        return len(self.outputs) > 1 and bool(np.ptp(self.outputs, axis=0).max() <= SAME * np.abs(self.outputs).max())


@dataclass(frozen=True)
class Blind:
    """What models reach that do not look at the sample: the mean loss if all outputs were 0, and that of saying what is usual, which is the
    best; how many of `count` samples have the most common label, None where targets are numbers. Losses are 0 where nobody knows.
    """

    nothing: float
    usual: float
    count: int
    common: int | None

    @classmethod
    def of(cls, project: Project, samples: Dataset) -> Blind:
        assert samples.y is not None
        labels = samples.y.dtype.kind == "i" and samples.y.ndim == 1
        common = int(np.bincount(samples.y).max()) if labels and len(samples) else None
        return cls(*_blind(project, samples), len(samples), common)

    def exceeded(self, loss: float, right: int | None) -> bool:
        """Whether a model with this mean loss, and so many samples right, looks at them."""
        if self.common is None or right is None:
            return loss < VARIES * self.usual
        part = self.common / self.count
        chance = self.common + SURE * math.sqrt(self.count * part * (1 - part)) + 0.5
        return right > chance or (part < 1 and loss < KNOWS * self.usual)


@dataclass(frozen=True)
class Yardstick:
    """`before` is the mean loss of `samples` before the first step, which `blind` and `held`, of the validation samples, are compared with.

    `knew`: it told samples apart then, as does what an earlier training has left. `varied`: the loss reads no labels, and at first not
    nearly all samples were given the same class.
    """

    samples: Dataset
    before: float
    blind: Blind
    held: Blind | None = None
    knew: bool = False
    varied: bool = False

    @classmethod
    def of(
        cls, project: Project, session: Session, samples: Dataset, held: Dataset | None, seed: int, before: float | None,
        highest: float = math.inf,
    ) -> Yardstick:
        """Measures what `before` does not say. Samples of a loss above `highest`, which are not learned from, say nothing of what is
        learned, unless all are such. Raises Diverged where that is no number."""
        assert samples.y is not None
        chosen = np.random.default_rng((seed, 0)).permutation(len(samples))[:SAMPLES]
        few = samples.some(chosen)
        if highest < math.inf and (taught := _losses(session, few) <= highest).any():
            few = few.some(np.flatnonzero(taught))
        blind, knew, varied, alone = Blind.of(project, few), True, False, not labelled(project.manifest)
        if before is None or alone:
            measured = _measured(session, few)
            before = measured.loss if before is None else before
            knew = alone or blind.exceeded(measured.loss, measured.right)
            varied = alone and measured.says[1] <= ONE * len(few)
        if not math.isfinite(before):
            message = f"The loss of {project.folder} is not finite before training."
            raise Diverged(message, hint="Scale the samples to the range that the model was made for.")
        return cls(few, before, blind, Blind.of(project, held) if held is not None and len(held) else None, knew, varied)

    def measure(self, session: Session) -> Measure:
        return _measured(session, self.samples)

    @property
    def limit(self) -> float:
        """What a mean loss must not exceed."""
        return WORSE * max(self.before, self.blind.nothing)

    def worse(self, measured: Measure, epoch: Epoch, *, already: bool) -> str | None:
        """How training made things worse than they were; None where it did not. Raises Diverged where the loss is no number.

        Weights may be dead after a loss that shot up: it then falls to that of saying what is usual. So what was worse `already`, or was
        so in the course of the epoch, has recovered only where it is better than that.
        """
        after, usual = measured.loss, self.blind.usual
        before = f"the loss of {len(self.samples)} of the samples was {self.before:,.4g} before training"
        if not math.isfinite(after) or not math.isfinite(epoch.validation_loss or 0.0):
            message = f"The loss is not finite after epoch {epoch.epoch}: {before}; what was learned in this epoch is dropped."
            raise Diverged(message, hint=HINT)
        shaken = already or epoch.loss > self.limit
        if after <= self.limit and (not shaken or after < KNOWS * usual):
            return None
        way = f"{epoch.loss:,.4g} on the way and " if epoch.loss > self.limit else ""
        blind = f", where the same answer to all of them gives {usual:,.4g}" if after <= self.limit else ""
        return f"{before}, {way}{after:,.4g} after epoch {epoch.epoch}{blind}"

    def unmoved(self, measured: Measure, epoch: Epoch) -> str | None:
        """How much the model is like one that does not look at the sample; None where it is not, or too few samples tell."""
        label, said = measured.says
        if self.varied and said > ONE * len(self.samples):
            return f"after epoch {epoch.epoch} it says class {label} of {said} of {len(self.samples)} samples, and did not before"
        if len(self.samples) + (self.held.count if self.held else 0) < TELLING or not self.blind.nothing:
            return None
        if self.blind.exceeded(measured.loss, measured.right) or (self.held and self._told(self.held, epoch)):
            return None
        labels = ""
        if measured.right is not None and self.blind.common is not None:
            labels = f", and {measured.right} are right, where saying the most common label to all gets {self.blind.common}"
        return (
            f"after epoch {epoch.epoch} the loss of {len(self.samples)} of the samples is {measured.loss:,.4g}, where the same answer to "
            f"all of them gives {self.blind.usual:,.4g}{labels}"
        )

    @staticmethod
    def _told(held: Blind, epoch: Epoch) -> bool:
        """Whether the validation samples show it."""
        right = None if epoch.accuracy is None else round(epoch.accuracy * held.count)
        return epoch.validation_loss is not None and held.nothing > 0 and held.exceeded(epoch.validation_loss, right)


def _losses(session: Session, samples: Dataset) -> Array:
    assert samples.y is not None
    return np.array([session.evaluate(x, target)[0] for x, target in zip(samples.x, samples.y, strict=True)])


def _measured(session: Session, samples: Dataset) -> Measure:
    assert samples.y is not None
    found = [session.evaluate(x, target) for x, target in zip(samples.x, samples.y, strict=True)]
    outputs = np.array([output for _, output in found])
    right = int(np.sum(outputs.argmax(axis=1) == samples.y)) if samples.y.dtype.kind == "i" and samples.y.ndim == 1 else None
    return Measure(float(np.mean([loss for loss, _ in found])), outputs, right)


def _blind(project: Project, samples: Dataset) -> tuple[float, float]:
    """Mean losses of models that do not look at the sample: of one whose outputs are all 0, and of the best one.

    The best says what is usual, which is the mean target, its logarithm or its log-odds, as the loss has it: of each of several outputs.
    """
    assert samples.y is not None
    manifest = project.manifest
    if not manifest.targets:
        loss = loss_of(project)
        return (0.0, 0.0) if loss is None or not loss.labelled else _blind_to(loss, manifest.output.shape, samples.y)
    shapes = {name: port.shape for name, port in manifest.output.parts}
    ends = np.cumsum([part.count for part in manifest.targets])[:-1]
    found = []
    for part, (loss, weight), y in zip(
        manifest.targets, losses_by_output(project), np.split(np.reshape(samples.y, (len(samples), -1)), ends, axis=1), strict=True
    ):
        labels = part.dtype is S32 and part.count == 1
        found.append(weight * np.array(_blind_to(loss, shapes[part.name], y[:, 0].astype(np.int32) if labels else y)))
    nothing, best = np.sum(found, axis=0).tolist()
    return nothing, best


def _blind_to(loss: Loss, shape: tuple[int, ...], y: Array) -> tuple[float, float]:
    """The same of one output, by its labels or targets."""
    labels = y.dtype.kind == "i"
    targets = [np.reshape(target, (1,) if labels else shape) for target in y]
    usual = np.mean(np.eye(math.prod(shape))[y] if labels else y.astype(np.float64), axis=0).reshape(shape)
    part = np.clip(usual, 1e-6, 1 - 1e-6)
    outputs = (np.zeros(shape), usual, np.log(part), np.log(part / (1 - part)))
    found = [float(np.mean([loss.reference(output.astype(np.float32), target)[0] for target in targets])) for output in outputs]
    return found[0], min(found)
