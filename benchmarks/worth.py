# SPDX-License-Identifier: Apache-2.0
"""Which samples are worth a step: those that are known already, those without a label, those that are not normal.

    python benchmarks/worth.py --table skip --task digits --seeds 5

`skip`: the tasks of benchmarks/tasks.py in fp32, where samples of a small loss cost their forward pass only. `unlabelled`: worlds that
change less, in which a network goes on without labels. `normal`: a detector that gives back pictures of one class, while others come
between. Every finished row is added to benchmarks/results/worth.json at once, and rows that are there are not measured again. Rates of
`unlabelled` are chosen by labelled samples that validate; what is measured, no training and no choice has seen.
"""

from __future__ import annotations

import functools
import json
import statistics
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import click
import numpy as np
import tasks
import worth_worlds as worlds

from tinytrain.atomic import write_text
from tinytrain.compiler import Options, compile_model, write
from tinytrain.data.dataset import Dataset
from tinytrain.device.project import Project
from tinytrain.device.session import Session
from tinytrain.gradient.update import Optimiser
from tinytrain.learn.outputs import evaluate
from tinytrain.learn.training import train_decaying
from tinytrain.report.live import Quiet

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results" / "worth.json"
OUT = HERE / "out" / "learning"
TABLES = ("skip", "unlabelled", "normal")
SKIPS = (0.0, 0.01, 0.03, 0.1, 0.3)
RATES = (0.0003, 0.001, 0.003)                            # among which one is chosen for learning without labels
EPOCHS = 3                                                # of learning without labels
FOLLOWS, RECENT, ROOM = "skip above what was learned", 50, 1.25  # times the median error of so many samples
PERCENTILES = (99, 75)                                    # of errors of normal samples
UPDATE = 4                                                # samples of one
TUNING_SEED = 100                                         # of no row
TEMPORARY = TemporaryDirectory()


@dataclass(frozen=True)
class Row:
    """One training. `passes`: part of the samples that had a backward pass. `before`, `after`: accuracy on held-back samples, or the area
    under the curve of a detector; `validated` the accuracy on those that validate; `old` afterwards in the world of before."""

    table: str
    task: str
    how: str
    seed: int
    rate: float
    passes: float
    before: float
    after: float
    validated: float | None = None
    old: float | None = None


def measured(session: Session, samples: Dataset) -> float:
    return evaluate(session, samples, Quiet()).accuracy or 0.0


def learnt(session: Session, samples: Dataset, rate: float, epochs: int, seed: int, accumulate: int = 1) -> float:
    """Train; the part of the samples that had a backward pass."""
    before = session.counters().skipped
    train_decaying(session, samples, rate, epochs, seed, accumulate)
    return 1 - (session.counters().skipped - before) / (epochs * (len(samples) - len(samples) % accumulate))


def project_of(key: str, model: Path, options: Options) -> Project:
    """Compiled once for all rows of a key; a temporary one, which is deleted in the end."""
    folder = Path(TEMPORARY.name) / key
    if not folder.is_dir():
        write(compile_model(model, options), folder)
    return Project.open(folder)


def skipping(task: tasks.Task, how: str, seed: int) -> Row:
    """The task, learned with samples left out whose loss is below what `how` ends in."""
    world, start, rate = task.world(), tasks.start(task, OUT), task.rates["fp32"]
    learn, validate = tasks.parts(world.adapt, len(world.adapt) * 4 // 5)
    held = tasks.parts(world.held, 1000)[0]
    options = Options(optimiser=Optimiser(rate, momentum=0.9), exact_seconds=0.5)
    with project_of(task.name, start.model, options).session() as session:
        before = measured(session, held)
        session.set_skip_below(float(how.split()[-1]))
        passes = learnt(session, learn, rate, task.epochs, seed)
        return Row("skip", task.name, how, seed, rate, passes, before, measured(session, held), measured(session, validate))


def unlabelled(world: worlds.Changed, how: str, seed: int, rate: float | None = None) -> Row:
    """Learning goes on without labels: `how` is the loss, the scheme, and what samples it learns from."""
    loss, scheme, which = how.split(", ")
    parts, rate = world.samples(), rate or _rate(world, how)
    options = Options(
        loss=loss, scheme=scheme.split()[0], optimiser=Optimiser(rate, momentum=0.9, accumulate=UPDATE), exact_seconds=0.5,
        fold_batchnorm=not world.norms, running_statistics="statistics" in scheme,
    )
    with project_of(f"{world.name} {loss} {scheme}", world.model(OUT), options).session() as session:
        before = measured(session, parts.held)
        if which == "all samples":
            session.set_skip_below(0.0)
            session.set_skip_above(0.0)
        blind = Dataset(parts.learn.x, np.zeros((len(parts.learn), 1), np.float32))
        passes = learnt(session, blind, rate, EPOCHS, seed, UPDATE)
        after, validated, old = (measured(session, samples) for samples in (parts.held, parts.validate, parts.old))
        return Row("unlabelled", world.name, how, seed, rate, passes, before, after, validated, old)


def _rate(world: worlds.Changed, how: str) -> float:
    """That with the best accuracy on the samples that validate; a cached one."""
    cached = OUT / world.name / "worth.json"
    found = json.loads(cached.read_text(encoding="utf-8")) if cached.is_file() else {}
    if how not in found:
        tried = {rate: unlabelled(world, how, TUNING_SEED, rate).validated or 0.0 for rate in RATES}
        found[how] = max(RATES, key=lambda rate: tried[rate])
        write_text(cached, json.dumps(found))
    return float(found[how])


def normal(how: str, seed: int) -> Row:
    """A detector whose normal class is `seed`; of the stream that it learns from a third is of the next class, and the camera turns."""
    detector, rate = worlds.Detector(seed), 0.002
    options = Options(loss="mse", optimiser=Optimiser(rate, kind="adam"), exact_seconds=0.5)
    with project_of("detector", worlds.detector(Path(TEMPORARY.name)), options).session() as session:
        train_decaying(session, detector.seen, rate, 20, 0)
        before, passes = detector.area(session), 0.0
        session.set_lr(rate / 2)
        if how.startswith("skip above percentile"):
            session.set_skip_above(float(np.percentile(worlds.errors(session, detector.seen.x), float(how.split()[-1]))))
        if how != "no learning":
            learn_normal(session, detector, follows=how == FOLLOWS)
            passes = 1 - session.counters().skipped / len(detector.stream)
        return Row("normal", "mnist", how, seed, rate / 2, passes, before, detector.area(session))


def learn_normal(session: Session, detector: worlds.Detector, *, follows: bool) -> None:
    """The stream; the bound may follow what was learned from, from the samples of before on."""
    recent = worlds.errors(session, detector.seen.x).tolist() if follows else []
    for i, x in enumerate(detector.stream):
        if follows and i % RECENT == 0:
            bound = ROOM * statistics.median(recent[-RECENT:])
            session.set_skip_above(bound)
        loss = session.train_step(x, x).loss
        if follows and loss <= bound:
            recent.append(loss)


def jobs(table: str, seeds: int, names: tuple[str, ...]) -> Iterator[tuple[tuple[str, str, str, int], Callable[[], Row]]]:
    """(table, task, how, seed) of each row that belongs there, and what measures it."""
    for seed in range(seeds):
        if table == "skip":
            for task in tasks.TASKS:
                for how in (f"skip below {loss:g}" for loss in SKIPS):
                    if not names or task.name in names:
                        yield (table, task.name, how, seed), functools.partial(skipping, task, how, seed)
        elif table == "unlabelled":
            for world in worlds.CHANGED:
                for how in world.hows:
                    if not names or world.name in names:
                        yield (table, world.name, how, seed), functools.partial(unlabelled, world, how, seed)
        else:
            for how in ("no learning", "learn all", *(f"skip above percentile {part}" for part in PERCENTILES), FOLLOWS):
                yield (table, "mnist", how, seed), functools.partial(normal, how, seed)


def read() -> list[Row]:
    return [Row(**row) for row in json.loads(RESULTS.read_text(encoding="utf-8"))] if RESULTS.is_file() else []


def lines(rows: Iterable[Row]) -> Iterator[str]:
    """A line for each kind of training: means, deviations and worst seeds, in percent."""
    kinds: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        kinds.setdefault((row.table, row.task, row.how), []).append(row)
    for (table, task, how), found in kinds.items():
        passes, validated = statistics.mean(row.passes for row in found), [row.validated for row in found if row.validated is not None]
        old = [row.old for row in found if row.old is not None]
        more = (f", validated {_spread(validated)}" if validated else "") + (f", old world {_spread(old)}" if old else "")
        before = statistics.mean(row.before for row in found)
        after = _spread([row.after for row in found])
        yield f"{table:<10} {task:<8} {how:<40} {passes:>4.0%} of the passes, {before:.1%} → {after}{more} ({len(found)} seeds)"


def _spread(values: list[float]) -> str:
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):.1%} ± {deviation * 100:.1f} (worst {min(values):.1%})"


@click.command()
@click.option("--table", "tables", type=click.Choice(TABLES), multiple=True, default=TABLES)
@click.option("--task", "names", multiple=True, help="Only these.")
@click.option("--seeds", type=click.IntRange(1), default=5, show_default=True)
@click.option("--show", is_flag=True, help="Measure nothing.")
def main(tables: tuple[str, ...], names: tuple[str, ...], seeds: int, show: bool) -> None:
    """Measure what is not measured yet, and show all."""
    for key, measure in (job for table in tables for job in jobs(table, seeds, names) if not show):
        if key in {(row.table, row.task, row.how, row.seed) for row in read()}:
            continue
        if missing := worlds.missing(key[1]):
            print(f"{key[1]} is left out: {', '.join(missing)} is missing", file=sys.stderr)
            continue
        row = measure()
        write_text(RESULTS, json.dumps([asdict(one) for one in [*read(), row]], indent=1) + "\n")
        print(row, flush=True)
    shown = sorted((row for row in read() if row.table in tables), key=lambda row: (row.table, row.task, row.how, row.seed))
    print(*lines(shown), sep="\n")


if __name__ == "__main__":
    main()
