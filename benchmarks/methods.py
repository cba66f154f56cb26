# SPDX-License-Identifier: Apache-2.0
"""Every way of learning that the tool has, on four worlds that change: accuracy, what is left of the old world, RAM and instructions.

Run it with `make methods`. A network was trained for a world (benchmarks/tasks.py), which then changes; each method learns the new one
from the same samples by `Device.train`, which is what `tinytrain train` does, for EPOCHS epochs with a tenth of the samples held out. Its
learning rate is the best of as many candidates as all others have, by a fifth of those samples that is not learned from, with a seed of
no row; the rows are accuracies on held-back samples. A training that fails (where `train` exits 3) is never the best, and counts with the
accuracy of what the device then has: that is what a user has. RAM and instructions are those that `tinytrain compile` states for a
Cortex-M4. What is finished is kept in benchmarks/out, so that an interrupted run goes on where it stopped. Writes
benchmarks/results/methods.json and docs/images/methods.svg.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import statistics
import sys
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import click
import tasks
from methods_plot import draw
from ways import ABOVE_HEAD, BOARD, RATES, WAYS, Place, Way

import tinytrain
from tinytrain.atomic import write_text
from tinytrain.data.dataset import Dataset
from tinytrain.errors import LearningError, ModelError, SchemeError, TinytrainError
from tinytrain.jobs import Jobs
from tinytrain.report.live import Progress, Quiet, training_bar
from tinytrain.report.text import table as lined
from tinytrain.schemes.scheme import Scheme

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results" / "methods.json"
PLOT = HERE.parent / "docs" / "images" / "methods.svg"
OUT = HERE / "out" / "methods"
SEEDS = (0, 1, 2, 3, 4)
TUNING_SEED = 100                                         # of no row
LOST = 1e9                                                # the loss of a training that diverged
CANDIDATES = (0.1, 0.3, 1.0, 3.0)                        # learning rates, times that of a line
MOST = {"mnist": (800, 1000), "har": (1000, 1500)}       # samples to learn from and held back, where all of them would take hours
EPOCHS = {"digits": 8, "har": 6, "keyword": 10, "mnist": 3}


MEASURED = ("failed", "accuracy", "old", "before", "ram_bytes", "temporary_bytes", "step_instructions", "steps", "scheme")


@dataclass(frozen=True)
class Run:
    """One training: `tuning` on samples that are taken from those to learn from."""

    task: str
    method: str
    rate: float
    seed: int
    tuning: bool


@dataclass(frozen=True)
class Row:
    """Accuracies from 0 to 1, on held-back samples of the new world and of the old one, of what the device has after training, also where
    that `failed`; `steps` are all that were run, 0 where nobody counted those of a failed one.

    RAM in all, what of it a training step has besides weights and state, and instructions of one step, as `compile` states them for BOARD:
    of several schemes those of the dearest. `scheme` is what was trained where that is all by which a method differs from `full`.
    """

    task: str
    method: str
    seed: int
    rate: float
    failed: bool
    accuracy: float
    old: float
    before: float
    ram_bytes: int
    temporary_bytes: int
    step_instructions: int
    steps: int
    scheme: str
    command: str


@dataclass(frozen=True, eq=False)
class World:
    """To learn from, held back of the new world, held back of the old one."""

    learn: Dataset
    held: Dataset
    old: Dataset


def task_of(name: str) -> tasks.Task:
    return next(task for task in tasks.TASKS if task.name == name)


def way_of(name: str) -> Way:
    return next(way for way in WAYS if way.name == name)


@cache
def world(name: str, tuning: bool) -> World:
    """The samples of a task as its model takes them; for tuning a fifth of those to learn from stands for those held back."""
    made = task_of(name).world()
    made = tasks.World(*(Dataset(part.x.transpose(0, 3, 1, 2), part.y) for part in (made.before, made.adapt, made.held)))
    learn, held = MOST.get(name, (len(made.adapt), len(made.held)))
    adapt, old = tasks.parts(made.adapt, learn)[0], tasks.parts(made.before, len(made.before) * 9 // 10)[1]
    if tuning:
        return World(*tasks.parts(adapt, learn * 4 // 5), old)
    return World(adapt, tasks.parts(made.held, held)[0], tasks.parts(old, min(len(old), held))[0])


def model_of(task: str, way: Way, out: Path) -> Path:
    if way.norms:
        return tasks.start_with_norms(task_of(task), out)
    start = tasks.start(task_of(task), out)
    return start.quantised if way.int8 else start.model


def place(task: str, way: Way, out: Path, seed: int) -> Place:
    return Place(model_of(task, way, out), world(task, tuning=True).learn, RATES[task], out / task, seed)


@cache
def built(task: str, name: str, out: Path, seed: int) -> tinytrain.Build:
    """Compiled for the seed of a run, which matters only to a scheme by chance; once for all rates."""
    way = way_of(name)
    at = place(task, way, out, seed)
    choices = {**way.choices, **({"scheme": way.scheme(at)} if way.scheme else {})}
    return tinytrain.load(at.model).compile(BOARD, **choices)


class Steps(Quiet):
    """Counts the steps of a training, whatever comes of it."""

    def __init__(self) -> None:
        self.run, self._trains = 0, False

    def start(self, label: str, total: int) -> None:
        self._trains = label.startswith("epoch")

    def advance(self, note: str) -> None:
        self.run += self._trains


def costs(build: tinytrain.Build, way: Way) -> dict[str, Any]:
    """Of the dearest scheme where there are several; and the scheme itself where nothing else makes the method."""
    room, plan, step = build.compiled.room, build.compiled.plan, build.compiled.estimate
    assert room is not None and step is not None, BOARD
    most = max(plan.entries[train].arena_bytes for train in build.compiled.program.trains)
    plain = not way.int8 and way.choices.keys() <= {"scheme"}
    return {
        "ram_bytes": room.ram_bytes, "temporary_bytes": most - plan.fixed_bytes, "step_instructions": step.instructions,
        "scheme": Scheme(build.compiled.schemes[0].layers).to_toml() if plain else "",
    }


def learn(out: Path, run: Run) -> dict[str, Any]:
    """Accuracies after training, of a failed one those of what it leaves; `refused` where the method does not fit the model."""
    samples = world(run.task, run.tuning)
    try:
        build = built(run.task, run.method, out, run.seed if way_of(run.method).by_seed else TUNING_SEED)
    except (ModelError, SchemeError) as error:
        return {"refused": str(error).splitlines()[0]}
    assert samples.learn.y is not None
    with build.twin() as device:
        (before, _), steps, failed = measure(device, samples.held), Steps(), False
        try:
            device.train(
                samples.learn.x, samples.learn.y, epochs=EPOCHS[run.task], lr=run.rate, seed=run.seed, holdout=0.1, progress=steps
            )
        except LearningError:
            failed = True
        (reached, loss), (old, _) = measure(device, samples.held), (0.0, 0.0) if run.tuning else measure(device, samples.old)
    return {
        "failed": failed, "accuracy": reached, "loss": loss, "old": old, "before": before, "steps": steps.run,
        **costs(build, way_of(run.method)),
    }


def measure(device: tinytrain.Device, samples: Dataset) -> tuple[float, float]:
    """(accuracy, loss)."""
    assert samples.y is not None
    found = device.evaluate(samples.x, samples.y)
    return found.accuracy or 0.0, min(found.loss, LOST) if math.isfinite(found.loss) else LOST


def key(run: Run) -> str:
    """What the result of a run depends on: the code of the compiler does not count, as --anew is for that."""
    way = way_of(run.method)
    chosen = [way.name, ABOVE_HEAD] if way.scheme or way.norms else way.choices
    said = [run.task, chosen, way.int8, run.rate, run.seed, run.tuning, EPOCHS[run.task], MOST.get(run.task)]
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def text_of(result: dict[str, Any]) -> str:
    return f"{result['accuracy']:.2%}{', failed' if result['failed'] else ''}"


def finished(runs: Sequence[Run], what: str, out: Path, jobs: Jobs, progress: Progress) -> dict[Run, dict[str, Any]]:
    """Results of runs whose method fits the model; of others it is said why not."""
    progress.start(what, len(runs))
    found, refused = {}, set[tuple[str, str]]()
    for run, result in jobs.run(partial(learn, out), runs, key):
        line = f"{run.task} {run.method} rate {run.rate:g} seed {run.seed}: {result.get('refused') or text_of(result)}"
        progress.advance(line)
        if "refused" not in result:
            found[run] = result
        elif (run.task, run.method) in refused:
            continue
        else:
            refused.add((run.task, run.method))
        progress.say(line)
    return found


def rank(result: dict[str, Any]) -> tuple[bool, float, float]:
    """Of two candidates the better one has more: none that failed is better than one that did not."""
    return not result["failed"], result["accuracy"], -result["loss"]


def measured(chosen: Sequence[str], ways: Sequence[Way], out: Path, jobs: Jobs, progress: Progress) -> list[Row]:
    for name in chosen:
        for way in ways:                                  # what is kept, before several processes want it
            if way.scheme:
                way.scheme(place(name, way, out, TUNING_SEED))
            model_of(name, way, out)
    tries = [
        Run(task, way.name, way.rate(task) * step, TUNING_SEED, True)
        for task in chosen for way in ways for step in CANDIDATES
    ]
    reached = finished(tries, "tune", out, jobs, progress)
    ranked = sorted(reached, key=lambda run: rank(reached[run]))
    best = {(run.task, run.method): run for run in ranked}
    runs = [replace(run, seed=seed, tuning=False) for run in best.values() for seed in SEEDS]
    found = finished(runs, "learn", out, jobs, progress)
    return [
        Row(
            task=run.task, method=run.method, seed=run.seed, rate=run.rate, **{name: found[run][name] for name in MEASURED},
            command=f"python benchmarks/methods.py --task {run.task} --method '{run.method}'",
        )
        for run in runs
    ]


@dataclass(frozen=True)
class Summary:
    """The seeds of a method on a task, accuracies in %; `same` are further methods that came to the same scheme."""

    task: str
    method: str
    mean: float
    deviation: float
    worst: float
    old: float
    ram_bytes: int
    temporary_bytes: int
    instructions: float                                   # of the whole training
    runs: int
    failed: int
    at_edge: bool                                         # the rate is the first or the last candidate
    same: tuple[str, ...] = ()

    @property
    def cells(self) -> list[str]:
        return [
            ", ".join((self.method, *self.same)) + " *" * self.at_edge, f"{self.mean:.1f} ± {self.deviation:.1f}", f"{self.worst:.1f}",
            f"{self.old:.1f}", f"{self.ram_bytes:,}", f"{self.temporary_bytes:,}", f"{self.instructions / 1e9:.2f} G",
            f"{self.failed} of {self.runs} failed" if self.failed else "",
        ]


HEADER = ["method", "accuracy %", "worst", "old world", "RAM in bytes", "temporaries", "instructions", ""]
EDGE = "* the least or the largest of the learning rates that were tried: one beyond may be better"


def summaries(rows: Iterable[Row]) -> list[Summary]:
    """Methods that came to the same scheme are one, with the results of the first. Schemes by chance, of which each seed has another, count
    with the bytes of the largest."""
    found: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        found.setdefault((row.task, row.method), []).append(row)
    once: dict[tuple[str, tuple[str, ...]], Summary] = {}
    for (task, method), of in found.items():
        schemes = tuple(row.scheme for row in of)
        what = task, schemes if all(schemes) else (method,)
        first = once.get(what)
        once[what] = replace(first, same=(*first.same, method)) if first else _summary(task, method, of)
    return list(once.values())


def _summary(task: str, method: str, of: Sequence[Row]) -> Summary:
    """A seed that failed has the accuracy of what it left, which lowers the mean; the old world, which that has not left, and instructions
    are means of the others, where there are any."""
    learned = [row for row in of if not row.failed] or of
    grid = [way_of(method).rate(task) * step for step in (CANDIDATES[0], CANDIDATES[-1])]
    return Summary(
        task, method, 100 * statistics.mean(r.accuracy for r in of), 100 * _deviation([r.accuracy for r in of]),
        100 * min(r.accuracy for r in of), 100 * statistics.mean(r.old for r in learned), max(r.ram_bytes for r in of),
        max(r.temporary_bytes for r in of), statistics.mean(r.step_instructions * r.steps for r in learned), len(of),
        sum(r.failed for r in of), any(math.isclose(of[0].rate, end) for end in grid),
    )


def _deviation(numbers: Sequence[float]) -> float:
    return statistics.stdev(numbers) if len(numbers) > 1 else 0.0


def table(rows: Sequence[Row]) -> str:
    """A table for each task; below, how far each method is from the first one, the mean over the tasks that it fits."""
    lines, all_of = [], summaries(rows)
    names = list(dict.fromkeys(one.task for one in all_of))
    for task in names:
        before = 100 * statistics.mean(row.before for row in rows if row.task == task)
        lines += ["", f"{task}: {task_of(task).title}; {before:.1f} % before it learns"]
        lines.append(lined([HEADER, *(one.cells for one in all_of if one.task == task)]))
        there = {row.method for row in rows if row.task == task}
        lines += textwrap.wrap(f"not measured: {', '.join(way.name for way in WAYS if way.name not in there)}", 140)
    whole = {one.task: one for one in all_of if one.method == WAYS[0].name}
    body = [[f"less {WAYS[0].name}, in points", "accuracy", "old world", "part of its RAM", "worst task"]]
    for way in WAYS:
        pairs = [(one, whole[one.task]) for one in all_of if one.method == way.name and one.task in whole]
        if pairs:
            apart = [one.mean - full.mean for one, full in pairs]
            old = statistics.mean(one.old - full.old for one, full in pairs)
            ram = statistics.mean(one.ram_bytes / full.ram_bytes for one, full in pairs)
            tasks_of = f"{len(pairs)} tasks" if len(pairs) > 1 else pairs[0][0].task
            body.append([f"{way.name} ({tasks_of})", f"{statistics.mean(apart):+.1f}", f"{old:+.1f}", f"{ram:.0%}", f"{min(apart):+.1f}"])
    return "\n".join([*lines, "", EDGE, "", lined(body)])


def read(path: Path) -> list[Row]:
    return [Row(**row) for row in json.loads(path.read_text(encoding="utf-8"))] if path.is_file() else []


def save(path: Path, rows: Iterable[Row]) -> None:
    """In the order of the table, whatever order they were measured in."""
    order = [t.name for t in tasks.TASKS], [m.name for m in WAYS]
    ordered = sorted(rows, key=lambda r: (order[0].index(r.task), order[1].index(r.method), r.seed))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, "[\n" + ",\n".join("  " + json.dumps(asdict(row)) for row in ordered) + "\n]\n")


@click.command()
@click.option("--task", "names", multiple=True, type=click.Choice([t.name for t in tasks.TASKS]), help="Only this task.")
@click.option("--method", "only", multiple=True, type=click.Choice([m.name for m in WAYS]), help="Only this method.")
@click.option("--show", is_flag=True, help="Only print the table of the results that are there.")
@click.option("--anew", is_flag=True, help="Measure again what is there.")
@click.option("--jobs", "processes", type=click.IntRange(1), help="Trainings at once; one a core unless given.")
@click.option("--results", type=click.Path(path_type=Path), default=RESULTS)
@click.option("--plot", type=click.Path(path_type=Path), default=PLOT)
@click.option("--out", type=click.Path(path_type=Path), default=OUT, help="Folder for pretrained models and what is finished.")
def main(
    names: tuple[str, ...], only: tuple[str, ...], show: bool, anew: bool, processes: int | None, results: Path, plot: Path, out: Path
) -> None:
    """Table and plot of methods × tasks × seeds, for all tasks whose data is there."""
    rows = read(results)
    if not show:
        chosen = [task.name for task in tasks.TASKS if not names or task.name in names]
        for task in map(task_of, chosen):
            if task.missing:
                print(f"{task.name} is left out: there is no {tasks.DATA / task.missing[0]}.")
        chosen = [name for name in chosen if not task_of(name).missing]
        ways = [way for way in WAYS if not only or way.name in only]
        jobs = Jobs(processes, cache=None if anew else out / "cache")
        with training_bar() as progress:
            new = measured(chosen, ways, out, jobs, progress)
        done = {(row.task, row.method) for row in new}
        rows = [*(row for row in rows if (row.task, row.method) not in done), *new]
        save(results, rows)
        draw(plot, summaries(rows))
        print(f"{os.path.relpath(results)}\n{os.path.relpath(plot)}")
    print(table(rows))


if __name__ == "__main__":
    try:
        main(standalone_mode=True)
    except TinytrainError as error:
        print(f"methods: {error}", file=sys.stderr)
        sys.exit(2)
