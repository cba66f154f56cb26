# SPDX-License-Identifier: Apache-2.0
"""The learning rate of each update of a training: the host sets it, and lets it fall over all epochs unless it is told otherwise.

The last samples of a training would else move weights as far as the first: half of them are at the mercy of what was seen last.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from tinytrain.device.project import Project
from tinytrain.errors import DataError
from tinytrain.ops.schedule import Schedule

FALLING = Schedule("cosine")                              # without steps: over all updates of the training


@dataclass(frozen=True)
class Rates:
    """Of `updates` updates, counted from 0 through all epochs, with `base` as the rate that the schedule is of.

    A cosine without steps of its own ends with them. Raises DataError where a warm-up leaves it none.
    """

    base: float
    updates: int
    schedule: Schedule = FALLING

    def __post_init__(self) -> None:
        if self.schedule.course == "cosine" and not self.schedule.steps:
            if self.schedule.warmup >= self.updates:
                message = f"--warmup {self.schedule.warmup:,} leaves none of the {self.updates:,} updates in which the learning rate falls."
                raise DataError(message, hint="Give a smaller one, or more --epochs.")
            object.__setattr__(self, "schedule", replace(self.schedule, steps=self.updates))

    def __call__(self, update: int) -> float:
        return float(self.schedule.reference(np.array([self.base]), np.array([update + 1]))[0][0])

    def __str__(self) -> str:
        schedule, warmup = self.schedule, f"rises in {self.schedule.warmup:,} updates, then " if self.schedule.warmup else ""
        if schedule.course == "constant":
            return f"{self.base:g}" if not warmup else f"{warmup}{self.base:g}"
        if schedule.course == "table":
            changes = (f"times {factor:g} from update {start:,} on" for start, factor in schedule.table)
            return f"{self.base:g}, {', '.join(changes)}"
        if schedule.course == "step":
            return f"{warmup}{self.base:g}, times {schedule.factor:g} after each {schedule.steps:,} updates"
        end = "with the last update" if schedule.steps == self.updates else f"after {schedule.steps:,} updates"
        return f"{warmup}falls from {self.base:g} to {schedule.least:g} {end}"


def rates_of(project: Project, schedule: Schedule | None, base: float, updates: int) -> Rates | None:
    """Of a training; None where the device has a schedule of its own. Raises DataError where both would change the rate."""
    if not project.manifest.scheduled:
        return Rates(base, updates, FALLING if schedule is None else schedule)
    if schedule is not None:
        message = f"{project.folder} was compiled with a schedule of the learning rate, which the device follows; expected no other one."
        raise DataError(message, hint="Leave out --schedule and --warmup here, or there.")
    return None


def schedule_text(schedule: Schedule | None) -> str | None:
    """As a user asks for it behind --schedule; None where the rate stays as it is."""
    schedule = FALLING if schedule is None else schedule
    if not schedule.changes:
        return None
    if schedule.course == "table":
        return "table:" + ",".join(f"{start}={factor:.9g}" for start, factor in schedule.table)
    words = {"warmup": schedule.warmup, "schedule-steps": schedule.steps, "lr-min": schedule.least}
    if schedule.course == "step":
        words["schedule-factor"] = schedule.factor
    return " ".join([schedule.course, *(f"--{name} {value:g}" for name, value in words.items() if value)])
