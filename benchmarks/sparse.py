# SPDX-License-Identifier: Apache-2.0
"""Found schemes against last-k, bias-only and full update, at three RAM budgets each, on three networks whose world changes, three seeds.

Run it with `make sparse`. For each task: the contribution of each candidate is measured on four fifths of the samples to learn from, the
exact search finds a scheme for each budget, learning rates are tuned, and every method trains from the same pretrained network. What is
finished is kept in benchmarks/out, so that an interrupted run goes on where it stopped. Writes benchmarks/results/sparse.json.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import statistics
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import click
import numpy as np
import tasks

from tinytrain import __version__
from tinytrain.atomic import write_text
from tinytrain.compiler import Options, compile_model, write
from tinytrain.errors import TinytrainError
from tinytrain.frontend.data import Dataset
from tinytrain.jobs import Jobs
from tinytrain.project import Project
from tinytrain.report.live import Progress, Quiet, training_bar
from tinytrain.schemes.analysis import Settings, analyse
from tinytrain.schemes.contribution import Contributions
from tinytrain.schemes.cost import Costs
from tinytrain.schemes.scheme import Scheme, load, preset
from tinytrain.schemes.search import Budget, Effort, search
from tinytrain.schemes.space import space
from tinytrain.training import Diverged, evaluate, train_epoch
from tinytrain.update import Optimiser

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results" / "sparse.json"
OUT = HERE / "out" / "sparse"
NAMES = ("keyword", "mnist", "har")
SEEDS = (0, 1, 2)
TUNING_SEED = 100                                         # of no row
BUDGETS = (0.2, 0.275, 0.35)                             # of the planned RAM of full update
RATES = (0.3, 1.0, 3.0, 10.0)                             # times the rate of full update that the task names
METHODS = ("found", "last", "bias")
ANALYSED = 600                                            # samples that a candidate of the analysis learns from
MOMENTUM = 0.9
LOST = 1e9                                                # the loss of a training that diverged
SEARCH_SECONDS = 60.0


@dataclass(frozen=True)
class Run:
    """One training: a scheme as text, a learning rate, a seed; on the samples to learn from, or tuning on a part of them."""

    task: str
    scheme: str
    rate: float
    seed: int
    tuning: bool

    @property
    def key(self) -> str:
        return hashlib.sha256(f"{__version__} {self}".encode()).hexdigest()


@dataclass(frozen=True)
class Row:
    """Accuracy on held-back samples, from 0 to 1. `budget` is a part of full update's RAM; all bytes are planned ones."""

    task: str
    budget: float
    budget_bytes: int
    method: str
    scheme: str
    rate: float
    seed: int
    accuracy: float
    ram_bytes: int
    backward_macs: int
    command: str


@dataclass(frozen=True, eq=False)
class Contender:
    """A method at a budget of a task, with what its scheme costs."""

    task: str
    budget: float
    budget_bytes: int
    method: str
    name: str
    scheme: Scheme
    ram_bytes: int
    backward_macs: int

    @property
    def toml(self) -> str:
        return self.scheme.to_toml()


def task_of(name: str) -> tasks.Task:
    return next(task for task in tasks.TASKS if task.name == name)


def options_of(task: tasks.Task, rate: float | None = None, scheme: Scheme | str = "full") -> Options:
    return Options(scheme=scheme, optimiser=Optimiser(rate or task.rates["fp32"], momentum=MOMENTUM))


def learn(out: Path, run: Run) -> tuple[float, float]:
    """(accuracy, minus the loss) after training: on the held-back samples, or while tuning on a fifth of those to learn from."""
    task = task_of(run.task)
    start, world = tasks.start(task, out), task.world()
    samples, held = tasks.parts(world.adapt, len(world.adapt) * 4 // 5) if run.tuning else (world.adapt, world.held)
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "scheme.toml").write_text(run.scheme, encoding="utf-8")
        write(compile_model(start.model, options_of(task, run.rate, load(folder / "scheme.toml"))), folder / "project")
        with Project.open(folder / "project").session() as session:
            try:
                for epoch in range(task.epochs):
                    session.set_lr(tasks.decayed(run.rate, epoch, task.epochs))
                    train_epoch(session, samples, None, epoch, run.seed, Quiet())
                accuracy, loss = evaluate(session, held, Quiet())
            except Diverged:
                return 0.0, -LOST
    return accuracy or 0.0, -min(loss, LOST) if loss is not None and math.isfinite(loss) else -LOST


def contributions(task: tasks.Task, out: Path, jobs: Jobs, progress: Progress) -> Contributions:
    """Measured on samples that are to be learned from."""
    adapt = task.world().adapt
    learned, held = tasks.parts(adapt, len(adapt) * 4 // 5)
    folder = out / task.name
    for name, samples in (("learn", tasks.parts(learned, ANALYSED)[0]), ("validate", held)):
        _save(folder / f"{name}.npz", samples)
    model = tasks.start(task, out).model
    settings = Settings(epochs=max(1, task.epochs // 2), seeds=1)
    options = options_of(task, 3 * task.rates["fp32"])
    return analyse(model, folder / "learn.npz", folder / "validate.npz", options, settings, jobs, progress)


def _save(path: Path, samples: Dataset) -> None:
    assert samples.y is not None
    np.savez(path, x=samples.x, y=samples.y)


def contenders(task: tasks.Task, out: Path, found: Contributions, say: Callable[[str], None]) -> list[Contender]:
    """Full update, and each method at each budget."""
    costs = Costs(tasks.start(task, out).model, options_of(task))
    full = preset("full", costs.forward)
    whole = costs.cost(full)
    limits = {budget: int(budget * whole.ram_bytes) for budget in BUDGETS}
    # what a candidate takes off the loss says more than the accuracy it wins, which is counted in few samples
    worth = [dataclasses.replace(one, gain=one.loss_drop) for one in found.found]
    chosen = search(costs, space(costs.layers, worth), [Budget(limit) for limit in limits.values()], Effort(seconds=SEARCH_SECONDS), say)
    made = [(1.0, whole.ram_bytes, "full", "full", full)]
    for (budget, limit), best in zip(limits.items(), chosen, strict=True):
        if best:
            made.append((budget, limit, "found", f"found under {limit:,} B", best.scheme))
        for method in ("last", "bias"):
            if scheme := deepest(costs, method, limit):
                made.append((budget, limit, method, scheme.preset, scheme))
    priced = [(one, costs.cost(one[-1])) for one in made]
    return [Contender(task.name, *one, cost.ram_bytes, cost.backward_macs) for one, cost in priced]


def deepest(costs: Costs, method: str, limit: int) -> Scheme | None:
    """`last:K` or `bias-last:K` with the largest K that fits; None where not even K = 1 does."""
    prefix = {"last": "last", "bias": "bias-last"}[method]
    schemes = (preset(f"{prefix}:{depth}", costs.forward) for depth in range(len(costs.layers), 0, -1))
    return next((scheme for scheme in schemes if scheme.layers and costs.cost(scheme).ram_bytes <= limit), None)


def tuned(made: Sequence[Contender], out: Path, jobs: Jobs, progress: Progress) -> list[tuple[Contender, Contender, float]]:
    """(contender, the one of its method that goes best under its budget, learning rate of that one), on samples that are to be learned
    from; of equal accuracies that with less loss. A larger budget need not be spent.
    """
    tries = {
        one: [Run(one.task, one.toml, factor * task_of(one.task).rates["fp32"], TUNING_SEED, True) for factor in RATES]
        for one in made
    }
    reached = finished(tries, "tune", out, jobs, progress)
    best = {one: max(runs, key=lambda run: reached[run]) for one, runs in tries.items()}
    fitting = {one: [other for other in made if other.method == one.method and other.ram_bytes <= one.budget_bytes] for one in made}
    chosen = {one: max(others, key=lambda other: reached[best[other]]) for one, others in fitting.items()}
    return [(one, other, best[other].rate) for one, other in chosen.items()]


def measured(chosen: Sequence[tuple[Contender, Contender, float]], out: Path, jobs: Jobs, progress: Progress) -> list[Row]:
    wanted = {other: [Run(other.task, other.toml, rate, seed, False) for seed in SEEDS] for _, other, rate in chosen}
    reached = finished(wanted, "learn", out, jobs, progress)
    return [
        Row(
            one.task, one.budget, one.budget_bytes, one.method, other.scheme.preset or other.toml, run.rate, run.seed, reached[run][0],
            other.ram_bytes, other.backward_macs, "make sparse",
        )
        for one, other, _ in chosen for run in wanted[other]
    ]


def finished(wanted: dict[Contender, list[Run]], what: str, out: Path, jobs: Jobs, progress: Progress) -> dict[Run, tuple[float, float]]:
    """What each run has reached; where a scheme serves two budgets, its runs are the same."""
    names = {run: one.name for one, runs in wanted.items() for run in runs}
    reached = {}
    progress.start(what, len(names))
    for run, result in jobs.run(partial(learn, out), list(names), lambda run: run.key):
        reached[run] = (result[0], result[1])             # from the cache it comes as a list
        line = f"{run.task} {names[run]}, rate {run.rate:g}, seed {run.seed}: {result[0]:.2%}"
        progress.advance(line)
        progress.say(line)
    return reached


def table(rows: Sequence[Row]) -> str:
    """Accuracy in % on held-back samples, mean ± deviation over the seeds; then the means over the tasks."""
    lines = []
    for task in dict.fromkeys(row.task for row in rows):
        lines += ["", f"{task}: {task_of(task).title}", f"  {'method':<8}{'budget':>8}{'planned RAM':>14}{'accuracy %':>16}{'to full':>9}"]
        of_task = [row for row in rows if row.task == task]
        full = mean(of_task, "full", 1.0)
        for budget, method in dict.fromkeys((row.budget, row.method) for row in of_task):
            found = [row for row in of_task if (row.budget, row.method) == (budget, method)]
            spread = statistics.stdev(row.accuracy for row in found)
            here = mean(of_task, method, budget)
            size = f"  {method:<8}{budget:>8.0%}{found[0].ram_bytes:>14,}"
            lines.append(f"{size}{100 * here:>9.2f} ± {100 * spread:.2f}{100 * (here - full):>+9.2f}")
    lines += ["", "mean over tasks and budgets, in points"]
    for method in METHODS[1:]:
        lines.append(f"  found − {method:<6}{100 * margin(rows, method):+.2f}")
    lines.append(f"  found − full  {100 * statistics.mean(from_full(rows).values()):+.2f} at {max(BUDGETS):.0%} of its RAM")
    return "\n".join(lines)


def mean(rows: Iterable[Row], method: str, budget: float) -> float:
    return statistics.mean(row.accuracy for row in rows if (row.method, row.budget) == (method, budget))


def margin(rows: Sequence[Row], method: str) -> float:
    """Accuracy of the found schemes over that of a method at the same budgets, the mean over tasks and budgets that both meet."""
    names = dict.fromkeys((row.task, row.budget) for row in rows if row.method == method)
    parts = [[row for row in rows if row.task == task] for task, _ in names]
    return statistics.mean(mean(part, "found", b) - mean(part, method, b) for part, (_, b) in zip(parts, names, strict=True))


def from_full(rows: Sequence[Row]) -> dict[str, float]:
    """Of each task, the accuracy at the largest budget less that of full update."""
    parts = {task: [row for row in rows if row.task == task] for task in dict.fromkeys(row.task for row in rows)}
    return {task: mean(part, "found", max(BUDGETS)) - mean(part, "full", 1.0) for task, part in parts.items()}


@click.command()
@click.option("--task", "names", multiple=True, type=click.Choice(NAMES), help="Only this task; its rows alone are written.")
@click.option("--jobs", "processes", type=click.IntRange(1), help="Trainings at once; one a core unless given.")
@click.option("--results", type=click.Path(path_type=Path), default=RESULTS)
@click.option("--out", type=click.Path(path_type=Path), default=OUT, help="Folder for pretrained models and what is finished.")
def main(names: tuple[str, ...], processes: int | None, results: Path, out: Path) -> None:
    """Table of found schemes against last-k, bias-only and full update."""
    chosen = [task_of(name) for name in names or NAMES]
    if missing := [task.missing[0] for task in chosen if task.missing]:
        print(f"{missing[0]} is absent: nothing to measure.")
        return
    jobs = Jobs(processes, cache=out / "cache")
    rows: list[Row] = []
    with training_bar() as progress:
        for task in chosen:
            tasks.start(task, out)
            made = contenders(task, out, contributions(task, out, jobs, progress), progress.say)
            rows += measured(tuned(made, out, jobs, progress), out, jobs, progress)
    rows.sort(key=lambda row: (NAMES.index(row.task), row.budget, ("full", *METHODS).index(row.method), row.seed))
    results.parent.mkdir(parents=True, exist_ok=True)
    write_text(results, "[\n" + ",\n".join("  " + json.dumps(asdict(row)) for row in rows) + "\n]\n")
    print(table(rows))
    print(f"\n{os.path.relpath(results)}")


if __name__ == "__main__":
    try:
        main(standalone_mode=True)
    except TinytrainError as error:
        print(f"sparse: {error}", file=sys.stderr)
        sys.exit(2)
