# SPDX-License-Identifier: Apache-2.0
"""What holds on to the old world is worth: accuracy there and in the new one, of a memory of old samples, and of bonds to what the network
was (`--distil`, `--elastic`); and what a memory is worth to samples that come class by class.

    python benchmarks/replay.py --task har --seeds 5

Each network was trained for one world (benchmarks/tasks.py) and learns another, with as many samples in its memory as a quarter more RAM
holds. Every finished row is added to benchmarks/results/replay.json at once, and rows that are there are not measured again. Learning rates
are chosen without a memory, on other recordings (har) or samples (keyword) of the new world; how strong a bond is, by the mean of the
accuracies there and on samples that the network was trained with. What is measured, no training and no choice has seen.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory

import click
import numpy as np
import tasks
import transfer

from tinytrain.atomic import write_text
from tinytrain.compiler import Options, compile_model, write
from tinytrain.data.dataset import Dataset
from tinytrain.data.given import Given
from tinytrain.device.project import Project
from tinytrain.device.session import Session
from tinytrain.gradient.distil import Distil
from tinytrain.gradient.elastic import Elastic
from tinytrain.gradient.replay import Replay, held_bytes
from tinytrain.gradient.update import Optimiser
from tinytrain.learn.elastic import consolidated
from tinytrain.learn.memory import remember
from tinytrain.learn.outputs import evaluate
from tinytrain.learn.training import train_decaying, train_epoch
from tinytrain.report.live import Quiet

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results" / "replay.json"
OUT = HERE / "out" / "learning"
MORE_RAM = 0.25                                           # what a memory may take, of the arena without one
RATES = (0.0001, 0.0003, 0.001, 0.003)                    # among which one is chosen
EPOCHS = 10
TUNING_SEED = 100                                         # of no row
SCHEMES = {"har": ("full", "last:2"), "keyword": ("full", "last:1")}
# (how samples come, what keeps the old ones): a change of the world with and without samples of the old one; classes one after another
COURSES = (
    ("world", ""), ("world", "x1"), ("world", "distil"), ("world", "elastic"),
    ("shuffled", ""), ("classes", ""), ("classes", "x1"), ("classes", "x3"),
)
BONDS = {"distil": ("0.1:2", "0.3:2", "1:2", "3:2"), "elastic": ("3", "10", "30", "100")}   # among which one is chosen


@dataclass(frozen=True)
class Row:
    """One training: accuracy afterwards on held-back samples of the old world and of the new one; `before` that of the old one at first.
    `replay` is how many of a memory follow a new sample, or the bond, of which `strength` was chosen."""

    task: str
    scheme: str
    course: str
    replay: str
    seed: int
    samples: int
    arena_bytes: int
    rate: float
    before: float
    old: float
    new: float
    strength: str = ""


@dataclass(frozen=True, eq=False)
class Bench:
    """A task and a scheme: where it starts, and how much of a memory fits."""

    task: tasks.Task
    scheme: str
    start: tasks.Start
    before: Dataset
    new: transfer.Samples

    def options(self, rate: float, replay: Replay | None) -> Options:
        return Options(scheme=self.scheme, optimiser=Optimiser(rate, momentum=0.9), replay=replay, exact_seconds=0.5)

    @cached_property
    def known(self) -> tuple[Dataset, Dataset]:
        """Samples that the network was trained with, and samples of the same world that it was not."""
        return tasks.parts(self.before, len(self.before) * 9 // 10)

    @cached_property
    def fisher(self) -> Elastic:
        known, _ = self.known
        old = Given(np.moveaxis(known.x, -1, 1), known.y)
        made = consolidated(self.start.model, old, self.options(0.01, None), 1.0, Quiet()).elastic
        assert made is not None
        return made

    def bound(self, rate: float, bond: str, strength: str) -> Options:
        """The options with a bond to what the network was."""
        plain = self.options(rate, None)
        if bond == "distil":
            return replace(plain, distil=Distil.of(strength))
        return replace(plain, elastic=replace(self.fisher, strength=float(strength)))

    def strength(self, bond: str) -> str:
        """That with the best mean of both worlds; a cached one."""
        cached = OUT / self.task.name / f"{bond}-{self.scheme.replace(':', '')}.json"
        if not cached.is_file():
            found = {}
            for strength in BONDS[bond]:
                with TemporaryDirectory() as folder, self.session(Path(folder), self.bound(self.rate(), bond, strength))[0] as session:
                    train_decaying(session, self.new.learn, self.rate(), EPOCHS, TUNING_SEED)
                    each = [evaluate(session, samples, Quiet()).accuracy or 0.0 for samples in (self.known[0], self.new.validate)]
                    found[strength] = statistics.mean(each)
                    print(self.task.name, self.scheme, bond, strength, *each, flush=True)
            write_text(cached, json.dumps(max(found, key=lambda strength: found[strength])))
        return str(json.loads(cached.read_text(encoding="utf-8")))

    def fitting(self, words: str) -> Replay:
        """The largest memory that leaves the arena within its bound, as many of each class."""
        classes = len(np.unique(self.before.y))
        alone = compile_model(self.start.model, self.options(0.01, None)).plan.arena_bytes
        one = Replay.of(f"{classes}:balanced:{words}")
        tried = compile_model(self.start.model, self.options(0.01, one))
        each = held_bytes(tried.program) / classes
        count = classes + int((alone * (1 + MORE_RAM) - tried.plan.arena_bytes) / each)
        return Replay.of(f"{count // classes * classes}:balanced:{words}")

    def rate(self) -> float:
        """That with the best accuracy on the samples that validate; a cached one."""
        cached = OUT / self.task.name / f"replay-{self.scheme.replace(':', '')}.json"
        if not cached.is_file():
            found = {}
            for rate in RATES:
                with TemporaryDirectory() as folder, self.session(Path(folder), self.options(rate, None))[0] as session:
                    train_decaying(session, self.new.learn, rate, EPOCHS, TUNING_SEED)
                    found[rate] = evaluate(session, self.new.validate, Quiet()).accuracy or 0.0
            write_text(cached, json.dumps(max(found, key=lambda rate: found[rate])))
        return float(json.loads(cached.read_text(encoding="utf-8")))

    def session(self, folder: Path, options: Options) -> tuple[Session, int]:
        """A device, and the bytes of its arena."""
        compiled = compile_model(self.start.model, options)
        write(compiled, folder / "project")
        return Project.open(folder / "project").session(), compiled.plan.arena_bytes

    def row(self, course: str, words: str, seed: int) -> Row:
        (known, unseen), rate = self.known, self.rate()
        strength = self.strength(words) if words in BONDS else ""
        replay = self.fitting(words) if words and not strength else None
        options = self.bound(rate, words, strength) if strength else self.options(rate, replay)
        with TemporaryDirectory() as folder:
            session, arena_bytes = self.session(Path(folder), options)
            with session:
                before = evaluate(session, unseen, Quiet()).accuracy or 0.0
                if course == "world":
                    if replay is not None:
                        remember(session, in_order(known, np.random.default_rng(seed).permutation(len(known))), Quiet())
                    train_decaying(session, self.new.learn, rate, EPOCHS, seed)
                elif course == "shuffled":
                    for epoch in range(EPOCHS):
                        train_epoch(session, self.new.learn, None, epoch, seed, Quiet())
                else:
                    for part in by_class(self.new.learn, seed):
                        for epoch in range(EPOCHS):
                            train_epoch(session, part, None, epoch, seed, Quiet())
                old, new = (evaluate(session, samples, Quiet()).accuracy or 0.0 for samples in (unseen, self.new.held))
        held = replay.samples if replay else 0
        return Row(self.task.name, self.scheme, course, words, seed, held, arena_bytes, rate, before, old, new, strength)


def in_order(samples: Dataset, order: np.ndarray) -> Dataset:
    assert samples.y is not None
    return Dataset(samples.x[order], samples.y[order])


def by_class(samples: Dataset, seed: int) -> Iterator[Dataset]:
    """The samples of one class after another."""
    assert samples.y is not None
    for label in np.random.default_rng(seed).permutation(np.unique(samples.y)):
        yield in_order(samples, np.flatnonzero(samples.y == label))


def new_world(task: tasks.Task) -> transfer.Samples:
    """To learn from, to choose by, to measure: of the motion sensor no recording is in two of them."""
    if task.name == "har":
        return transfer.har()
    world = task.world()
    return transfer.Samples(*tasks.parts(world.adapt, len(world.adapt) * 4 // 5), world.held)


def read() -> list[Row]:
    return [Row(**row) for row in json.loads(RESULTS.read_text(encoding="utf-8"))] if RESULTS.is_file() else []


def table(rows: Iterable[Row]) -> Iterator[str]:
    """A line for each kind of training: means, deviations and worst seeds, in percent."""
    kinds: dict[tuple[str, str, str, str], list[Row]] = {}
    for row in rows:
        kinds.setdefault((row.task, row.scheme, row.course, row.replay), []).append(row)
    arenas = {(row.task, row.scheme): row.arena_bytes for row in rows if not row.replay}
    for (task, scheme, course, words), found in kinds.items():
        one = found[0]
        kept = f"{words} {one.strength}" if one.strength else f"{one.samples} samples {words}"
        memory = f"{kept}, {one.arena_bytes / arenas[task, scheme] - 1:+.0%} RAM" if words else "no memory"
        shown = ", ".join(f"{which} {_spread([getattr(row, which) for row in found])}" for which in ("old", "new"))
        yield f"{task:<8} {scheme:<7} {course:<9} {memory:<30} {shown} (old was {one.before:.1%}; {len(found)} seeds)"


def _spread(values: list[float]) -> str:
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):.1%} ± {deviation * 100:.1f} (worst {min(values):.1%})"


@click.command()
@click.option("--task", "names", type=click.Choice([*SCHEMES]), multiple=True, default=tuple(SCHEMES))
@click.option("--scheme", "only", help="Only this one.")
@click.option("--seeds", type=click.IntRange(1), default=5, show_default=True)
@click.option("--show", is_flag=True, help="Measure nothing.")
def main(names: tuple[str, ...], only: str | None, seeds: int, show: bool) -> None:
    """Measure what is not measured yet, and show all."""
    rows = read()
    done = {(row.task, row.scheme, row.course, row.replay, row.seed) for row in rows}
    for task in tasks.TASKS:
        if task.name not in names or show:
            continue
        if task.missing:
            print(f"{task.name} is left out: {', '.join(task.missing)} is missing", file=sys.stderr)
            continue
        start, before, new = tasks.start(task, OUT), task.world().before, new_world(task)
        for seed in range(seeds):
            for scheme in SCHEMES[task.name]:
                for course, words in COURSES:
                    if (task.name, scheme, course, words, seed) not in done and only in (None, scheme):
                        rows = [*read(), Bench(task, scheme, start, before, new).row(course, words, seed)]
                        write_text(RESULTS, json.dumps([asdict(row) for row in rows], indent=1) + "\n")
                        print(rows[-1], flush=True)
    print(*table(sorted(rows, key=lambda row: (row.task, row.scheme, row.course, row.replay, row.seed))), sep="\n")


if __name__ == "__main__":
    main()
