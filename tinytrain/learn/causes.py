# SPDX-License-Identifier: Apache-2.0
"""What is likely to be wrong with a training that failed, and what to try: looked for once it has, on the host."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tinytrain.device.project import Project
from tinytrain.errors import TinytrainError
from tinytrain.learn.state import Epoch
from tinytrain.learn.units import dead_units
from tinytrain.learn.yardstick import ONE, Measure, Yardstick

if TYPE_CHECKING:
    from tinytrain.device.session import Session
    from tinytrain.learn.collapse import Part

HIGH = 16.0                                               # of a value: networks are made for samples of about 1
MANY = 0.1                                                # of the int8 weights at the ends of their range, and twice what there was
FEW = 0.05                                                # of the numbers
FALLING = 0.99                                              # of the loss before
LOWER, HIGHER = "a lower learning rate (--lr)", "a higher learning rate (--lr)"
LONGER = "more epochs"

Cause = tuple[str, str]                                   # what was found, a sentence; what to try, "" where that says nothing


@dataclass(frozen=True)
class Outcome:
    """A training that failed: the device as it is, what its samples say, its epochs, and how many numbers have changed or are saturated."""

    project: Project
    session: Session
    yardstick: Yardstick
    measured: Measure
    epochs: tuple[Epoch, ...]
    changed: Part | None
    saturated_before: Part | None
    saturated: Part | None
    bound: float                                          # samples of a larger loss are skipped


def explain(outcome: Outcome) -> tuple[list[str], str]:
    """(what was found, a sentence each; what to try)."""
    found = [cause for look in CAUSES if (cause := look(outcome)) is not None]
    if any(advice.startswith(LOWER) for _, advice in found):       # what is dead does not change either
        found = [cause for cause in found if not cause[1].startswith(HIGHER)]
    tries = list(dict.fromkeys(advice for _, advice in found if advice))
    if not tries and (falls := _falls(outcome)):
        found, tries = [*found, falls], [falls[1]]
    if not tries:
        tries = [LONGER, "another learning rate (--lr)", "a look at whether labels and samples belong together"]
    return [sentence for sentence, _ in found], f"Try {_listed(tries)}."


def _listed(tries: list[str]) -> str:
    return tries[0] if len(tries) == 1 else f"{', '.join(tries[:-1])} or {tries[-1]}"


def _one_class(outcome: Outcome) -> Cause | None:
    y = outcome.yardstick.samples.y
    if outcome.measured.right is None or y is None or len(y) < 2 or (y != y[0]).any():
        return None
    return "All samples that were looked at are of one class.", "samples of all classes, mixed"


def _left_out(outcome: Outcome) -> Cause | None:
    last = outcome.epochs[-1]
    if last.skipped > last.steps / 2:
        advice = "a higher --skip-above" if outcome.measured.loss > outcome.bound else "a lower --skip-below"
        return f"{last.skipped:,} of {last.steps:,} samples of the last epoch were skipped.", advice
    if last.overflowed > last.steps / 2:
        return f"Gradients of {last.overflowed:,} of {last.steps:,} samples of the last epoch overflowed.", LOWER
    return None


def _values(outcome: Outcome) -> Cause | None:
    x, port = outcome.yardstick.samples.x, outcome.project.manifest.input
    high = float(np.abs(x).max(initial=0.0))
    if port.parts or high <= HIGH:
        return None
    whole = x.min() >= 0 and high <= 255 and bool((x == np.round(x)).all())
    return f"Values of the samples reach {high:,.4g}.", "--scale 1/255" if whole else "samples scaled to values of about 1"


def _shot_up(outcome: Outcome) -> Cause | None:
    highest = max(outcome.epochs, key=lambda epoch: epoch.loss)
    if highest.loss <= outcome.yardstick.limit:
        return None
    return f"The mean loss of epoch {highest.epoch} was {highest.loss:,.4g}.", LOWER


def _same_answer(outcome: Outcome) -> Cause | None:
    outputs = outcome.measured.outputs
    if len(outputs) < 2:
        return None
    if outcome.measured.same:
        return "The outputs are the same for all samples.", ""
    if outcome.yardstick.varied and outcome.measured.says[1] > ONE * len(outputs):
        return "Without labels it has made itself sure of one class.", f"{LOWER}, or --scheme bias or batchnorm of `compile`"
    if outcome.measured.right is not None and outputs.shape[1] > 1 and (outputs.argmax(axis=1) == outputs[0].argmax()).all():
        return f"It says class {outputs[0].argmax()} of all samples.", ""
    return None


def _dead(outcome: Outcome) -> Cause | None:
    try:
        layers = dead_units(outcome.project, outcome.session, outcome.yardstick.samples.x)
    except TinytrainError:
        return None                                       # what is said of the failure must not fail
    if not layers:
        return None
    name, dead, units = layers[0]
    return f"{dead:,} of {units:,} units of {name} give the same for all samples.", LOWER


def _ends_of_range(outcome: Outcome) -> Cause | None:
    before, after = outcome.saturated_before, outcome.saturated
    if before is None or after is None or after.part < max(MANY, 2 * before.part):
        return None
    return f"{after.part:.0%} of {after.count:,} int8 weights are at the ends of their range, {before.part:.0%} were before.", LOWER


def _unchanged(outcome: Outcome) -> Cause | None:
    if outcome.changed is None or outcome.changed.part >= FEW or outcome.epochs[-1].skipped == outcome.epochs[-1].steps:
        return None
    stored = {outcome.session.dtypes[p.key] for p in outcome.project.manifest.parameters}
    advice = HIGHER
    if np.dtype(np.int8) in stored:
        advice += ", or `compile` without --no-qas or with --rounding residual"
    elif np.dtype(np.float16) in stored:
        advice += ", or `compile` without --master none"
    return f"{outcome.changed.part:.1%} of the {outcome.changed.count:,} trained numbers have changed: updates round to nothing.", advice


def _falls(outcome: Outcome) -> Cause | None:
    before, after = outcome.yardstick.before, outcome.measured.loss
    return (f"The loss falls: from {before:,.4g} to {after:,.4g}.", f"{LONGER} or {HIGHER}") if after < FALLING * before else None


CAUSES: tuple[Callable[[Outcome], Cause | None], ...] = (
    _one_class, _values, _shot_up, _left_out, _same_answer, _dead, _ends_of_range, _unchanged,
)
