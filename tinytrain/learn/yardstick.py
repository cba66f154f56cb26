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
from tinytrain.gradient.train_step import losses
from tinytrain.learn.state import Epoch

if TYPE_CHECKING:
    from tinytrain.device.session import Session

SAMPLES = 50
WORSE = 2.0                                               # times the loss before training, or that of a model that knows nothing


class Diverged(DeviceError):
    """The loss grew out of all numbers, or far beyond what it was before training."""


@dataclass(frozen=True)
class Yardstick:
    """`before` is the mean loss of `samples` before the first step, `nothing` what it would be if all outputs were 0."""

    samples: Dataset
    before: float
    nothing: float

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
        return cls(few, before, _knowing_nothing(project, few))

    def worse(self, session: Session, epoch: Epoch) -> str | None:
        """How an epoch made things worse; None where it did not.

        After one that did, weights may be dead: the loss is then that of knowing nothing, and only that of the epoch tells.
        """
        after = _loss(session, self.samples)
        limit = WORSE * max(self.before, self.nothing)
        on_the_way = epoch.loss > limit and after > 0.9 * self.nothing
        if math.isfinite(after) and math.isfinite(epoch.validation_loss or 0.0) and after <= limit and not on_the_way:
            return None
        way = f"{epoch.loss:,.4g} on the way and " if on_the_way else ""
        before = f"the loss of {len(self.samples)} of the samples was {self.before:,.4g} before training"
        return f"{before}, {way}{after:,.4g} after epoch {epoch.epoch}"


def _loss(session: Session, samples: Dataset) -> float:
    assert samples.y is not None
    return float(np.mean([session.evaluate(x, target)[0] for x, target in zip(samples.x, samples.y, strict=True)]))


def _knowing_nothing(project: Project, samples: Dataset) -> float:
    """Mean loss of outputs that are all 0: even odds for every class, or a prediction of 0."""
    assert samples.y is not None
    found = losses().get(project.manifest.loss or "")
    if found is None:
        return 0.0
    output = np.zeros(project.manifest.output.shape, np.float32)
    shape = () if samples.y.dtype.kind == "i" else output.shape
    return float(np.mean([found().reference(output, np.reshape(target, shape or (1,)))[0] for target in samples.y]))
