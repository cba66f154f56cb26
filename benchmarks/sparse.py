# SPDX-License-Identifier: Apache-2.0
"""Found schemes against last-k, bias-only and full update, at three RAM budgets each, on three networks that learn something new.

Run it with `make sparse`. For each task: the contribution of each candidate is measured, the exact search finds a scheme for each budget,
learning rates are tuned for every method alike, and all train from the same network. Schemes and rates are chosen on validation samples;
accuracy is that on held-back ones. What is finished is kept in benchmarks/out, so that an interrupted run goes on where it stopped. Writes
benchmarks/results/sparse.json.
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
from transfer import TRANSFERS, Transfer

from tinytrain import __version__
from tinytrain.atomic import write_text
from tinytrain.compiler import Options, compile_model, write
from tinytrain.data.dataset import Dataset
from tinytrain.device.project import Project
from tinytrain.errors import TinytrainError
from tinytrain.gradient.update import Optimiser
from tinytrain.jobs import Jobs
from tinytrain.learn.outputs import evaluate
from tinytrain.learn.training import train_decaying
from tinytrain.learn.yardstick import Diverged
from tinytrain.report.live import Progress, Quiet, training_bar
from tinytrain.schemes.scheme import Scheme, load, preset
from tinytrain.search.analysis import Settings, analyse
from tinytrain.search.contribution import Contributions
from tinytrain.search.cost import Costs
from tinytrain.search.search import Budget, Effort, search
from tinytrain.search.space import space

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results" / "sparse.json"
OUT = HERE / "out" / "sparse"
NAMES = tuple(task.name for task in TRANSFERS)
SEEDS = (0, 1, 2)
TUNING_SEEDS = (100, 101)                                 # of no row
BUDGETS = (0.2, 0.275, 0.35)                             # of the planned RAM of full update
RATES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)
METHODS = ("found", "last", "bias")
ANALYSIS_RATE = 1e-3
MOMENTUM = 0.9
LOST = 1e9                                                # the loss of a training that diverged
SEARCH_SECONDS = 60.0


@dataclass(frozen=True)
class Run:
    """One training: a scheme as text, a learning rate, a seed; measured on the held-back samples, or tuning on those to validate."""

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


def task_of(name: str) -> Transfer:
    return next(task for task in TRANSFERS if task.name == name)


def options_of(rate: float, scheme: Scheme | str = "full") -> Options:
    return Options(scheme=scheme, optimiser=Optimiser(rate, momentum=MOMENTUM))


def learn(out: Path, run: Run) -> tuple[float, float]:
    """(accuracy, minus the loss) after training."""
    task = task_of(run.task)
    samples = task.samples()
    measuring = samples.validate if run.tuning else samples.held
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "scheme.toml").write_text(run.scheme, encoding="utf-8")
        write(compile_model(task.model(out / task.name), options_of(run.rate, load(folder / "scheme.toml"))), folder / "project")
        with Project.open(folder / "project").session() as session:
            try:
                train_decaying(session, samples.learn, run.rate, task.epochs, run.seed)
                found = evaluate(session, measuring, Quiet())
            except Diverged:
                return 0.0, -LOST
    return found.accuracy or 0.0, -min(found.loss, LOST) if math.isfinite(found.loss) else -LOST


def contributions(task: Transfer, out: Path, jobs: Jobs, progress: Progress) -> Contributions:
    """What training each candidate alone is worth, on the validation samples."""
    folder, samples = out / task.name, task.samples()
    model = task.model(folder)
    for name, part in (("learn", samples.learn), ("validate", samples.validate)):
        _save(folder / f"{name}.npz", part)
    settings = Settings(epochs=max(1, task.epochs // 2), seeds=1)
    return analyse(model, folder / "learn.npz", folder / "validate.npz", options_of(ANALYSIS_RATE), settings, jobs, progress)


def _save(path: Path, samples: Dataset) -> None:
    assert samples.y is not None
    np.savez(path, x=samples.x, y=samples.y)


def contenders(task: Transfer, out: Path, found: Contributions, say: Callable[[str], None]) -> list[Contender]:
    """Full update, and each method at each budget."""
    costs = Costs(task.model(out / task.name), options_of(ANALYSIS_RATE))
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
    """`last:K`, or the biases of the last K layers and the whole head, with the largest K that fits; None where not even K = 1 does."""
    head = preset("head", costs.forward)
    for depth in range(len(costs.layers), 0, -1):
        scheme = preset(f"{'last' if method == 'last' else 'bias-last'}:{depth}", costs.forward)
        if method == "bias":
            scheme = Scheme({**scheme.layers, **head.layers}, f"{scheme.preset} and head")
        if costs.cost(scheme).ram_bytes <= limit:
            return scheme
    return None


def tuned(made: Sequence[Contender], out: Path, jobs: Jobs, progress: Progress) -> list[tuple[Contender, Contender, float]]:
    """(contender, the one of its method that goes best under its budget, learning rate of that one), by the validation samples; of
    equal accuracies that with less loss. A larger budget need not be spent.
    """
    tries = {one: [Run(one.task, one.toml, rate, seed, True) for rate in RATES for seed in TUNING_SEEDS] for one in made}
    reached = finished(tries, "tune", out, jobs, progress)

    def score(one: Contender, rate: float) -> tuple[float, float]:
        of_rate = [reached[run] for run in tries[one] if run.rate == rate]
        return statistics.mean(accuracy for accuracy, _ in of_rate), statistics.mean(worth for _, worth in of_rate)

    best = {one: max(RATES, key=lambda rate: score(one, rate)) for one in made}
    fitting = {one: [other for other in made if other.method == one.method and other.ram_bytes <= one.budget_bytes] for one in made}
    chosen = {one: max(others, key=lambda other: score(other, best[other])) for one, others in fitting.items()}
    return [(one, other, best[other]) for one, other in chosen.items()]


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
@click.option("--show", is_flag=True, help="Only print the table of the results that are there.")
@click.option("--jobs", "processes", type=click.IntRange(1), help="Trainings at once; one a core unless given.")
@click.option("--results", type=click.Path(path_type=Path), default=RESULTS)
@click.option("--out", type=click.Path(path_type=Path), default=OUT, help="Folder for pretrained models and what is finished.")
def main(names: tuple[str, ...], show: bool, processes: int | None, results: Path, out: Path) -> None:
    """Table of found schemes against last-k, bias-only and full update."""
    if show:
        print(table([Row(**row) for row in json.loads(results.read_text(encoding="utf-8"))]))
        return
    chosen = [task_of(name) for name in names or NAMES]
    if missing := [task.missing[0] for task in chosen if task.missing]:
        print(f"{missing[0]} is absent: nothing to measure.")
        return
    jobs = Jobs(processes, cache=out / "cache")
    rows: list[Row] = []
    with training_bar() as progress:
        for task in chosen:
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
