# SPDX-License-Identifier: Apache-2.0
"""Whole schemes trained as jobs, with some seeds: what a search by training measures by, and what tells how good a found scheme is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from hashlib import sha256
from statistics import mean
from typing import Any

from tinytrain.jobs import Jobs
from tinytrain.report.live import Progress
from tinytrain.schemes.scheme import Scheme
from tinytrain.search.analysis import Workload, measure
from tinytrain.search.halving import Tries, Worth

REFUSED = Worth(-1.0, -1.0)                               # of a scheme that the compiler does not take after all


@dataclass(frozen=True)
class Whole:
    """A scheme as a candidate of an analysis, to measure what all of it gains at each of these multiples of the learning rate."""

    toml: str
    rates: tuple[float, ...]
    scheme: Scheme = field(compare=False)


@dataclass(frozen=True, eq=False)
class Trainings:
    """Trainings of schemes of one workload; what was trained once is in the cache of the jobs."""

    work: Workload
    jobs: Jobs
    bar: Progress

    @property
    def labelled(self) -> bool:
        """Whether gains are of accuracy."""
        return self.work.samples.y is not None and self.work.samples.y.dtype.kind == "i"

    def results(self, tries: Tries, first: int, count: int) -> list[dict[str, Any]]:
        """What `measure` finds of each scheme, with so many seeds from the first on."""
        work = replace(self.work, settings=replace(self.work.settings, first_seed=first, seeds=count))
        digest, wholes = work.digest(), [Whole(scheme.to_toml(), rates, scheme) for scheme, rates in tries]
        unique, found = list(dict.fromkeys(wholes)), dict[Whole, dict[str, Any]]()
        self.bar.start("training", len(unique))
        for whole, result in self.jobs.run(partial(measure, work), unique, lambda one: sha256(f"{digest} {one}".encode()).hexdigest()):
            found[whole] = result
            self.bar.advance("")
        return [found[whole] for whole in wholes]

    def worths(self, tries: Tries, first: int, count: int) -> list[list[list[Worth]]]:
        """As a search by training measures."""
        found = []
        for (_, rates), one in zip(tries, self.results(tries, first, count), strict=True):
            refused = "refused" in one
            worths = [REFUSED] * count * len(rates) if refused else list(map(Worth, one["gains"], one["drops"]))
            found.append([worths[at : at + count] for at in range(0, len(worths), count)])
        return found

    def accuracies(self, schemes: Sequence[Scheme], first: int, count: int) -> list[float | None]:
        """Mean accuracy after training, 0 to 1; None where targets are no labels."""
        results = self.results([(scheme, (1.0,)) for scheme in schemes], first, count)
        return [None if one.get("before") is None else one["before"] + mean(one["gains"]) for one in results]
