# SPDX-License-Identifier: Apache-2.0
"""Which learning rate suits: short trainings from the same weights, at rates from small to large, told apart by samples held back.

A range test (Smith, arXiv 1506.01186) raises the rate within one training and looks at its loss. With one sample a step that loss is mostly
noise; a host twin is fast enough to train anew at each rate, along the course that `train` has, in several orders of the samples.

Few steps are best made at a rate right below that at which training breaks down: more of them, or another order, then do break down. So the
smallest rate is suggested that is nearly as good as the best one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tinytrain.data.dataset import Dataset
from tinytrain.device.project import Project
from tinytrain.errors import DataError, TinytrainError
from tinytrain.learn.outputs import evaluate
from tinytrain.learn.rates import Rates
from tinytrain.learn.samples import split
from tinytrain.learn.training import train_epoch
from tinytrain.learn.unlabelled import labelled
from tinytrain.learn.yardstick import TELLING, Blind, Diverged
from tinytrain.report.live import Progress, Quiet

if TYPE_CHECKING:
    from tinytrain.device.session import Session

A_DECADE = 2                                              # rates in it
ORDERS = 3                                                # of the samples: one of them may get by where others break down
HELD = 0.2                                                # of the samples, by which trainings are measured
MOST_HELD = 500
SCALE = "Scale the samples to the range that the model was made for."
NEARLY = 0.9                                              # of the fall of the loss that the best rate has


@dataclass(frozen=True)
class Trial:
    """Trainings at a rate: mean loss of the samples held back, None where one ran away; their accuracy, None without labels."""

    rate: float
    loss: float | None
    accuracy: float | None

    @property
    def text(self) -> str:
        return "ran away" if self.loss is None else f"loss {self.loss:.4f}"


@dataclass(frozen=True)
class RateSearch:
    """How to look: at rates from `low` to `high`, each for about so many `steps`; `seed` says which samples are held back, and the orders.
    """

    low: float = 1e-4
    high: float = 1.0
    steps: int = 500
    seed: int = 0

    def __post_init__(self) -> None:
        """Raises TinytrainError."""
        if self.low > self.high:
            message = f"--from {self.low:g} lies above --to {self.high:g}; expected the smaller rate first."
            raise TinytrainError(message, hint="Swap them.")

    @property
    def rates(self) -> list[float]:
        """To two digits, as people write them."""
        count = math.floor(math.log10(self.high / self.low) * A_DECADE + 1e-6) + 1
        return [float(f"{self.low * 10 ** (i / A_DECADE):.1e}") for i in range(count)]


@dataclass(frozen=True)
class RateCurve:
    """Trainings of `steps` steps, in whole epochs, by rising rate, up to the first that breaks down. `before` is the loss of the `held`
    samples before each of them, `start` that from which it falls: the same, or that of the best answer which does not look at the sample.
    """

    before: float
    start: float
    trials: tuple[Trial, ...]
    steps: int
    held: int

    @property
    def best(self) -> Trial:
        """Of the smallest loss."""
        return min(self.trials, key=lambda trial: math.inf if trial.loss is None else trial.loss)

    @property
    def suggestion(self) -> float:
        """The smallest rate whose loss falls nearly as far as that of the best."""
        best = self.best.loss
        assert best is not None and best < self.start, "find_rate has raised otherwise"
        wanted = self.start - NEARLY * (self.start - best)
        return next(trial.rate for trial in self.trials if trial.loss is not None and trial.loss <= wanted)

    @property
    def doubt(self) -> str | None:
        """Why another rate may be better: chance, or one beyond those that were tried."""
        if self.held < TELLING:
            return f"{self.held} samples decide, which may be chance: give more, {math.ceil(TELLING / HELD)} in all"
        if self.best is self.trials[-1]:
            return f"the largest rate is the best: larger ones may be better (--to above {self.best.rate:g})"
        if self.suggestion == self.trials[0].rate:
            return f"the smallest rate is good enough: smaller ones may be (--from below {self.suggestion:g})"
        return None


def find_rate(project: Project, session: Session, samples: Dataset, search: RateSearch, progress: Progress) -> RateCurve:
    """Train from the compiled weights at each rate, and put these back.

    Raises DataError for too few samples, or a loss that does not say how good a rate is; Diverged where at no rate the model gets better.
    """
    if not labelled(project.manifest):
        message = f"--loss {project.manifest.loss} is least where a network says one class of all samples: it tells no rate from another."
        raise DataError(message, hint="Give a small rate, as --lr 0.001, and look at --validation samples that have labels.")
    accumulate = project.manifest.accumulate
    seen, held = split(samples, HELD, search.seed)
    if held is None or len(seen) < accumulate:
        message = f"There are {len(samples):,} samples to find a learning rate by; expected {max(5, 2 * accumulate)} at least."
        raise DataError(message, hint="Give more of them, or a rate: --lr 0.01.")
    seen, held = seen.some(slice(max(search.steps, accumulate))), held.some(slice(MOST_HELD))
    before = evaluate(session, held, Quiet()).loss
    if not math.isfinite(before):
        raise Diverged(f"The loss of {len(held)} samples is not finite before training.", hint=SCALE)
    start = min(before, Blind.of(project, held).usual or math.inf)
    trials: list[Trial] = []
    progress.start("rates", len(search.rates))
    for rate in search.rates:
        trials.append(_trial(session, seen, held, rate, search, accumulate))
        progress.advance(f"{rate:g} {trials[-1].text}")
        if _fell(trials[:-1], start) and not _fell(trials[-1:], start):
            break                                         # so do larger ones
    session.reset()
    curve = RateCurve(before, start, tuple(trials), _epochs(seen, search) * (len(seen) - len(seen) % accumulate), len(held))
    if not _fell(trials, start):
        message = (
            f"At no rate from {search.low:g} to {search.high:g} does the loss of {len(held)} samples fall in {curve.steps:,} steps: it is "
            f"{before:.4g} before, {start:.4g} for the best answer that is the same to all, and {curve.best.text} at {curve.best.rate:g}."
        )
        raise Diverged(message, hint=f"{SCALE} Or give more --steps, or other rates: --from, --to.")
    return curve


def _fell(trials: list[Trial], start: float) -> bool:
    """Whether any of them made the model better."""
    return any(trial.loss is not None and trial.loss < start for trial in trials)


def _epochs(seen: Dataset, search: RateSearch) -> int:
    """Whole ones, of about as many steps as are asked for."""
    return max(1, round(search.steps / len(seen)))


def _trial(session: Session, seen: Dataset, held: Dataset, rate: float, search: RateSearch, accumulate: int) -> Trial:
    epochs = _epochs(seen, search)
    rates = Rates(rate, epochs * (len(seen) // accumulate))
    found = []
    try:
        for order in range(ORDERS):
            session.reset()
            for number in range(1, epochs + 1):
                train_epoch(session, seen, None, number, search.seed * ORDERS + order, Quiet(), accumulate, rates)
            found.append(evaluate(session, held, Quiet()))
    except Diverged:
        return Trial(rate, None, None)
    loss = sum(one.loss for one in found) / ORDERS
    right = [one.accuracy for one in found if one.accuracy is not None]
    return Trial(rate, loss if math.isfinite(loss) else None, sum(right) / ORDERS if right else None)
