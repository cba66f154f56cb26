# SPDX-License-Identifier: Apache-2.0
"""Whether a training failed, epoch by epoch: it made things worse, it taught nothing that shows, or its updates change nothing.

All of it is read off losses, outputs and weights that a training asks its device for anyway: the device does nothing more.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from tinytrain.device.project import Project
from tinytrain.errors import LearningError
from tinytrain.ir.types import Array
from tinytrain.learn.causes import Outcome, explain
from tinytrain.learn.state import Epoch
from tinytrain.learn.unlabelled import labelled
from tinytrain.learn.yardstick import Diverged, Measure, Yardstick

if TYPE_CHECKING:
    from tinytrain.device.session import Session

STEPS = 100                                               # in which weights that learn are changed
FEW = 0.05                                                # of the weights that are stored in few bits: fewer, and updates round to nothing
KNOWS_MUCH = 0.5                                          # of the loss of saying what is usual: below it there is little to change
FALLS = 0.9                                               # of the loss before: below it few changes were enough


class Unlearned(LearningError):
    """After training the model is no better than one that does not look at the sample, or its weights are what they were."""


@dataclass
class Watch:
    """The training of a project's device, from its weights as they are; `still`: at a learning rate of 0, which is to change nothing.
    Samples of a loss outside of `bounds` are left out.

    `good` are the weights to go back to: those of the last epoch that did not fail, or else of before; of a model that never told these
    samples apart those that have learned longest without giving the same for all. `worse` and `unlearned` say how the last epoch failed.
    """

    project: Project
    yardstick: Yardstick
    good: dict[str, Array]
    still: bool = False
    bounds: tuple[float, float] = (0.0, math.inf)
    worse: str | None = None
    unlearned: str | None = None
    _began: dict[str, Array] = field(init=False)
    _epochs: list[Epoch] = field(default_factory=list)
    _measured: Measure | None = None

    def __post_init__(self) -> None:
        self._began, self._knew = self.good, self.yardstick.knew

    def look(self, session: Session, epoch: Epoch) -> bool:
        """Whether an epoch is worth keeping, as far as can be told. Raises Diverged where the loss is no number."""
        self._epochs.append(epoch)
        self._measured = measured = self.yardstick.measure(session)
        self.worse, self.unlearned = self.yardstick.worse(measured, epoch, already=self.worse is not None), None
        if self.worse is not None:
            return False
        weights = session.get_params()
        if not self.still:
            self.unlearned = self.yardstick.unmoved(measured, epoch) or self._unchanged(weights, measured)
        if self.unlearned is None or not (self._knew or measured.same):
            self.good = weights
        self._knew = self._knew or self.unlearned is None
        return self.unlearned is None

    @property
    def text(self) -> str:
        """What is said behind the line of an epoch."""
        if self.worse is not None:
            return "   worse than before: not saved"
        return "   nothing learned: not saved" if self.unlearned is not None else ""

    def end(self, session: Session) -> None:
        """Raise Diverged or Unlearned where the last epoch failed, with what is likely to be wrong."""
        if self.worse is None and self.unlearned is None:
            return
        assert self._measured is not None
        weights = session.get_params()
        outcome = Outcome(
            self.project, session, self.yardstick, self._measured, tuple(self._epochs), changed(self.project, self._began, weights),
            saturated(self.project, self._began), saturated(self.project, weights), self.bounds[1],
        )
        details, hint = explain(outcome)
        if self.worse is not None:
            message = f"{self.project.folder} got worse by training: {self.worse}; what was learned since then is dropped."
            raise Diverged(message, details=details, hint=hint)
        raise Unlearned(f"{self.project.folder} has learned nothing that shows: {self.unlearned}.", details=details, hint=hint)

    def _unchanged(self, weights: Mapping[str, Array], measured: Measure) -> str | None:
        """How little of the weights has changed since training began; None where enough has, or nothing need be changed."""
        steps = sum(epoch.steps - epoch.skipped for epoch in self._epochs)
        if not steps:
            low, high = self.bounds
            told = labelled(self.project.manifest) and measured.loss <= high
            return None if told else f"no sample has a loss between {low:,.4g} and {high:,.4g}"
        whole, few = changed(self.project, self._began, weights), changed(self.project, self._began, weights, coarse=True)
        if whole is not None and whole.part == 0:
            return f"no weight has changed in {steps:,} steps"
        enough = measured.loss < max(KNOWS_MUCH * self.yardstick.blind.usual, FALLS * self.yardstick.before)
        if few is None or few.part >= FEW or steps < STEPS or enough:
            return None
        return f"{few.part:.1%} of {few.count:,} weights that are stored in few bits have changed in {steps:,} steps"


@dataclass(frozen=True)
class Part:
    """So much of `count` numbers."""

    part: float
    count: int


def changed(project: Project, before: Mapping[str, Array], after: Mapping[str, Array], *, coarse: bool = False) -> Part | None:
    """How many of the trained numbers are others than before; `coarse`: of those of int8 and fp16. None where there are none."""
    keys = [p.key for p in project.manifest.parameters if p.key in after and (not coarse or after[p.key].dtype.itemsize < 4)]
    return _part([before[key] != after[key] for key in keys])


def saturated(project: Project, weights: Mapping[str, Array]) -> Part | None:
    """How many of the int8 weights are at an end of their range."""
    found = [weights[p.key] for p in project.manifest.parameters if p.key in weights and weights[p.key].dtype == np.int8]
    return _part([np.abs(array.astype(np.int16)) >= 127 for array in found])


def _part(masks: list[Array]) -> Part | None:
    count = sum(mask.size for mask in masks)
    return Part(sum(int(mask.sum()) for mask in masks) / count, count) if count else None
