# SPDX-License-Identifier: Apache-2.0
"""Whether training made things worse: some of the samples it learns from, measured before it begins and after each epoch.

Samples that are held back would not do: a small model that learns them by heart may lose on others without end, and is not broken.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tinytrain.data.dataset import Dataset
from tinytrain.device.project import Project
from tinytrain.errors import DeviceError
from tinytrain.gradient.objective import losses
from tinytrain.learn.state import Epoch
from tinytrain.reading import reading

if TYPE_CHECKING:
    from tinytrain.device.session import Session

SAMPLES = 50
WORSE = 2.0                                               # times the loss before training, or that of a model that knows nothing
KNOWS = 0.9                                               # of the loss of saying what is usual: below it something was learned
HINT = "Train with a lower learning rate (--lr), or scale the samples as the model expects them."


class Diverged(DeviceError):
    """The loss grew out of all numbers, or far beyond what it was before training."""


@dataclass(frozen=True)
class Yardstick:
    """`before` is the mean loss of `samples` before the first step, `nothing` what it would be if all outputs were 0.

    `usual` is the best that can be reached without looking at the sample.
    """

    samples: Dataset
    before: float
    nothing: float
    usual: float

    @classmethod
    def of(cls, project: Project, session: Session, samples: Dataset, seed: int, before: float | None) -> Yardstick:
        """Measures what `before` does not say. Raises Diverged where that is no number."""
        assert samples.y is not None
        chosen = np.random.default_rng((seed, 0)).permutation(len(samples))[:SAMPLES]
        few = Dataset(samples.x[chosen], samples.y[chosen])
        before = _loss(session, few) if before is None else before
        if not math.isfinite(before):
            message = f"The loss of {project.folder} is not finite before training."
            raise Diverged(message, hint="Scale the samples to the range that the model was made for.")
        return cls(few, before, *_blind(project, few))

    def worse(self, session: Session, epoch: Epoch, *, already: bool) -> str | None:
        """How training made things worse than they were; None where it did not. Raises Diverged where the loss is no number.

        Weights may be dead after a loss that shot up: it then falls to that of saying what is usual. So what was worse `already`, or was
        so in the course of the epoch, has recovered only where it is better than that.
        """
        after, limit = _loss(session, self.samples), WORSE * max(self.before, self.nothing)
        before = f"the loss of {len(self.samples)} of the samples was {self.before:,.4g} before training"
        if not math.isfinite(after) or not math.isfinite(epoch.validation_loss or 0.0):
            message = f"The loss is not finite after epoch {epoch.epoch}: {before}; what was learned in this epoch is dropped."
            raise Diverged(message, hint=HINT)
        shaken = already or epoch.loss > limit
        if after <= limit and (not shaken or after < KNOWS * self.usual):
            return None
        way = f"{epoch.loss:,.4g} on the way and " if epoch.loss > limit else ""
        blind = f", where the same answer to all of them gives {self.usual:,.4g}" if after <= limit else ""
        return f"{before}, {way}{after:,.4g} after epoch {epoch.epoch}{blind}"


def _loss(session: Session, samples: Dataset) -> float:
    assert samples.y is not None
    return float(np.mean([session.evaluate(x, target)[0] for x, target in zip(samples.x, samples.y, strict=True)]))


def _blind(project: Project, samples: Dataset) -> tuple[float, float]:
    """Mean losses of models that do not look at the sample: of one whose outputs are all 0, and of the best one.

    The best says what is usual, which is the mean target, its logarithm or its log-odds, as the loss has it.
    """
    assert samples.y is not None
    kind, shape = losses().get(project.manifest.loss or ""), project.manifest.output.shape
    if kind is None or project.manifest.output.parts:
        return 0.0, 0.0
    labels = samples.y.dtype.kind == "i"
    targets = [np.reshape(target, (1,) if labels else shape) for target in samples.y]
    usual = np.mean(np.eye(math.prod(shape))[samples.y] if labels else samples.y.astype(np.float64), axis=0).reshape(shape)
    part = np.clip(usual, 1e-6, 1 - 1e-6)
    outputs = (np.zeros(shape), usual, np.log(part), np.log(part / (1 - part)))
    with reading(project.folder / "manifest.json", "options of its loss", DeviceError, "Compile the model again."):
        loss = kind.of(**project.manifest.loss_options)
        found = [float(np.mean([loss.reference(output.astype(np.float32), target)[0] for target in targets])) for output in outputs]
        return found[0], min(found)
