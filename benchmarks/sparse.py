# SPDX-License-Identifier: Apache-2.0
"""Found schemes against what the same bytes buy without a search, on networks that learn something new.

Run it with `make sparse`. For each task and budget: successive halving finds a scheme; beside it stand the last layers and small slices
of all layers, filled to the same bytes (`last:auto`, `spread:auto`), biases and head, and schemes by chance. All of them choose from
the same learning rates: its best two by one training each, of these the better one by SEEDS trainings. Schemes and rates are chosen on
validation samples; accuracy is that on held-back ones. Where a budget leaves a method no weight to train, its row is shown, but counts
in no mean: what is found would be compared with nothing. What is finished is kept in benchmarks/out, so that an interrupted run goes on
where it stopped. Writes benchmarks/results/sparse.json.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import statistics
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from pathlib import Path

import click
from transfer import TRANSFERS, Transfer

from tinytrain import __version__
from tinytrain.atomic import write_text
from tinytrain.compiler import Options, compile_model, write
from tinytrain.device.project import Project
from tinytrain.errors import TinytrainError
from tinytrain.gradient.update import Optimiser
from tinytrain.jobs import Jobs
from tinytrain.learn.outputs import evaluate
from tinytrain.learn.training import train_decaying
from tinytrain.learn.yardstick import Diverged
from tinytrain.report.live import Progress, Quiet, training_bar
from tinytrain.schemes.scheme import AUTO, Scheme, load, preset
from tinytrain.search.cost import Costs
from tinytrain.search.fill import within
from tinytrain.search.halving import BIASES, CHANCE, Halving, Trial, Tries, Worth, at_best_rate, halve, score, trials_text

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results" / "sparse.json"
OUT = HERE / "out" / "sparse"
NAMES = tuple(task.name for task in TRANSFERS)
BUDGETS = (0.2, 0.35)                                    # of the planned RAM of full update
CONFIRMED = 2                                             # learning rates of each scheme
SEEDS = 3
CHANCES = 3                                               # of the schemes by chance that the search tries: these are `random` here
FILLED = {"last": AUTO[0], "spread": AUTO[1], "bias": BIASES}
OTHERS = (*FILLED, "random")
LIMIT = "limit"                                           # of all that was tried the best on held-back samples in one training
MOMENTUM = 0.9
LOST = 1e9                                                # the loss of a training that diverged


@dataclass(frozen=True)
class Run:
    """A training of a scheme, as text. `given` stands for all else that is the same for each run of a task."""

    task: str
    given: str
    scheme: str
    rate: float
    seed: int

    @property
    def key(self) -> str:
        return digest(self)

    @property
    def folder(self) -> str:
        """Of the compiled project."""
        return digest(self.given, self.scheme)[:16]


@dataclass(frozen=True)
class Reached:
    """Accuracy, from 0 to 1, and loss on the samples to validate, and accuracy on held-back ones."""

    validated: float
    loss: float
    held: float

    @property
    def worth(self) -> Worth:
        """What a choice is made by: samples to validate alone."""
        return Worth(self.validated, -self.loss)


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


def task_of(name: str) -> Transfer:
    return next(task for task in TRANSFERS if task.name == name)


def digest(*parts: object) -> str:
    """Of what results were made from, by this version."""
    return hashlib.sha256(repr((__version__, *parts)).encode()).hexdigest()


def given(task: Transfer, out: Path) -> str:
    """A digest of a task's network, samples and epochs, and of all options but the scheme."""
    samples = task.samples()
    arrays = [array for part in (samples.learn, samples.validate, samples.held) for array in (part.x, part.y) if array is not None]
    contents = [(array.shape, str(array.dtype), hashlib.sha256(array.tobytes()).hexdigest()) for array in arrays]
    return digest(hashlib.sha256(task.model(out / task.name).read_bytes()).hexdigest(), contents, task.epochs, options_of())


def options_of(scheme: Scheme | str = "full") -> Options:
    return Options(scheme=scheme, optimiser=Optimiser(momentum=MOMENTUM), exact_seconds=0.0)


def project(out: Path, run: Run) -> Path:
    """That all trainings of a scheme have."""
    return out / run.task / "projects" / run.folder


def build(out: Path, run: Run) -> None:
    folder = project(out, run)
    folder.parent.mkdir(parents=True, exist_ok=True)
    file = folder.with_suffix(".toml")
    file.write_text(run.scheme, encoding="utf-8")
    write(compile_model(task_of(run.task).model(out / run.task), options_of(load(file))), folder)


def learn(out: Path, run: Run) -> tuple[float, float, float]:
    """What `Reached` holds."""
    task = task_of(run.task)
    samples = task.samples()
    with Project.open(project(out, run)).session() as session:
        try:
            train_decaying(session, samples.learn, run.rate, task.epochs, run.seed)
            validated, held = (evaluate(session, part, Quiet()) for part in (samples.validate, samples.held))
        except Diverged:
            return 0.0, LOST, 0.0
    loss = validated.loss if math.isfinite(validated.loss) else LOST
    return validated.accuracy or 0.0, min(loss, LOST), held.accuracy or 0.0


@dataclass(frozen=True, eq=False)
class Trainings:
    """Trainings of schemes of one task; those of one run are in the cache for all methods and budgets."""

    task: Transfer
    out: Path
    jobs: Jobs
    progress: Progress

    @cached_property
    def given(self) -> str:
        return given(self.task, self.out)

    def reached(self, tries: Tries, first: int, count: int) -> list[list[list[Reached]]]:
        """Of each scheme at each of its rates with each seed. What a rate multiplies is 1."""
        runs = [
            [[Run(self.task.name, self.given, scheme.to_toml(), rate, first + seed) for seed in range(count)] for rate in rates]
            for scheme, rates in tries
        ]
        each = list(dict.fromkeys(run for of_scheme in runs for of_rate in of_scheme for run in of_rate))
        absent = {run.folder: run for run in each if not project(self.out, run).is_dir()}
        for _ in replace(self.jobs, cache=None).run(partial(build, self.out), list(absent.values()), lambda run: run.folder):
            pass                                          # before several processes want one
        found = {}
        self.progress.start("learn", len(each))
        for run, result in self.jobs.run(partial(learn, self.out), each, lambda run: run.key):
            found[run] = Reached(*result)
            self.progress.advance("")
        return [[[found[run] for run in of_rate] for of_rate in of_scheme] for of_scheme in runs]

    def worths(self, tries: Tries, first: int, count: int) -> list[list[list[Worth]]]:
        """What a search measures by."""
        return [[[one.worth for one in of_rate] for of_rate in of_scheme] for of_scheme in self.reached(tries, first, count)]

    def rows(self, budget: float, limit: int, named: Sequence[tuple[str, Trial]]) -> Iterator[Row]:
        """Of each (method, trial) all seeds at its best rate."""
        first = self.reached([(one.scheme, self.task.rates) for _, one in named], 0, 1)
        tries = [(one.scheme, self._best(of)) for (_, one), of in zip(named, first, strict=True)]
        for (method, one), (scheme, rates), of in zip(named, tries, self.reached(tries, 0, SEEDS), strict=True):
            at = max(range(CONFIRMED), key=lambda i: score([one.worth for one in of[i]]))
            for seed, found in enumerate(of[at]):
                yield Row(
                    self.task.name, budget, limit, method, scheme.to_toml(), rates[at], seed, found.held,
                    one.cost.ram_bytes, one.cost.backward_macs, f"python benchmarks/sparse.py --task {self.task.name}",
                )

    def best_held(self, trials: Sequence[Trial]) -> Trial:
        """By what no search may look at."""
        reached = self.reached([(one.scheme, (one.rate,)) for one in trials], 0, 1)
        return max(zip(trials, reached, strict=True), key=lambda pair: pair[1][0][0].held)[0]

    def _best(self, reached: Sequence[Sequence[Reached]]) -> tuple[float, ...]:
        """CONFIRMED of the rates, those with which most was reached, in their order."""
        best = sorted(range(len(reached)), key=lambda at: score([one.worth for one in reached[at]]), reverse=True)[:CONFIRMED]
        return tuple(self.task.rates[at] for at in sorted(best))


def rows_of(task: Transfer, budgets: Sequence[float], out: Path, jobs: Jobs, progress: Progress) -> Iterator[Row]:
    """Full update, and each method at each budget."""
    trainings, rates = Trainings(task, out, jobs, progress), task.rates
    costs = Costs(task.model(out / task.name), options_of())
    whole = preset("full", costs.forward)
    (full,) = at_best_rate([Trial("full", whole, costs.cost(whole))], trainings.worths, rates)
    yield from trainings.rows(1.0, full.cost.ram_bytes, [("full", full)])
    known: dict[str, Scheme] = {}
    for budget in budgets:
        limit = int(budget * full.cost.ram_bytes)
        trials = halve(costs, within(costs, limit), known, Halving(seeds=SEEDS, rates=rates), trainings.worths)
        progress.say(f"{task.name}, {limit:,} B\n{trials_text(trials, points=True)}\n{trials[0].chosen.to_toml()}")
        known[f"found at {budget:.0%}"] = trials[0].scheme
        named = [(method, one) for method, name in FILLED.items() for one in trials if name in one.name]
        named += [("random", one) for one in by_chance(trials)]
        yield from trainings.rows(budget, limit, [("found", trials[0]), *named, (LIMIT, trainings.best_held(trials))])


def by_chance(trials: Sequence[Trial]) -> list[Trial]:
    """The first CHANCES that were drawn, however they fared."""
    drawn = {int(name.removeprefix(CHANCE)): one for one in trials for name in one.name.split(", ") if name.startswith(CHANCE)}
    return [drawn[number] for number in sorted(drawn)[:CHANCES]]


def table(rows: Sequence[Row]) -> str:
    """Accuracy in % on held-back samples: mean ± deviation over the seeds, and the worst; then means over tasks and budgets."""
    lines = []
    for task in dict.fromkeys(row.task for row in rows):
        head = f"  {'method':<8}{'budget':>8}{'planned RAM':>14}{'accuracy %':>16}{'worst':>8}{'to full':>9}"
        lines += ["", f"{task}: {task_of(task).title}", head]
        of_task = [row for row in rows if row.task == task]
        full = mean(of_task, "full", 1.0)
        for budget, method in dict.fromkeys((row.budget, row.method) for row in of_task):
            reached = [100 * row.accuracy for row in of_task if (row.budget, row.method) == (budget, method)]
            bytes_ = max(row.ram_bytes for row in of_task if (row.budget, row.method) == (budget, method))
            spread = statistics.stdev(reached) if len(reached) > 1 else 0.0
            size = f"  {method:<8}{budget:>8.0%}{bytes_:>14,}"
            here = statistics.mean(reached)
            none = "" if trains_weights(of_task, method, budget) else "   no weight"
            lines.append(f"{size}{here:>9.2f} ± {spread:.2f}{min(reached):>8.1f}{here - 100 * full:>+9.2f}{none}")
    pairs = [*(("found", method) for method in OTHERS), (LIMIT, "last")]
    each_of = {pair: each for pair in pairs if (each := margins(rows, *pair))}
    several = any(len(of_task) > 1 for each in each_of.values() for of_task in (each, *each.values()))
    lines += ["", "mean over tasks and budgets, in points; what was found for two budgets counts once" if several else "in points"]
    for (one, other), each in each_of.items():
        by_task = ", ".join(f"{task} {100 * statistics.mean(of_task):+.2f}" for task, of_task in each.items())
        whole = statistics.mean(cell for of_task in each.values() for cell in of_task)
        lines.append(f"  {one} − {other:<7}{100 * whole:+.2f}   {by_task}")
    return "\n".join(lines)


def mean(rows: Iterable[Row], method: str, budget: float) -> float:
    return statistics.mean(row.accuracy for row in rows if (row.method, row.budget) == (method, budget))


def trains_weights(rows: Iterable[Row], method: str, budget: float) -> bool:
    return any("weight" in row.scheme for row in rows if (row.method, row.budget) == (method, budget))


def margins(rows: Sequence[Row], method: str, other: str) -> dict[str, list[float]]:
    """Of each task: accuracy of each scheme of a method over that of another one at the least budget for which it was found, where the
    other one has a weight to train."""
    found: dict[str, list[float]] = {}
    for task in dict.fromkeys(row.task for row in rows):
        of_task = [row for row in rows if row.task == task]
        counted = set()
        for budget in dict.fromkeys(row.budget for row in of_task if row.method == other):
            scheme = {(row.scheme, row.rate) for row in of_task if (row.budget, row.method) == (budget, method)}
            if not scheme <= counted and trains_weights(of_task, other, budget):
                found.setdefault(task, []).append(mean(of_task, method, budget) - mean(of_task, other, budget))
            counted |= scheme
    return found


@click.command()
@click.option("--task", "names", multiple=True, type=click.Choice(NAMES), help="Only this task; its rows replace those in the file.")
@click.option("--budget", "budgets", multiple=True, type=float, default=BUDGETS, show_default=True, help="Part of the RAM of full update.")
@click.option("--show", is_flag=True, help="Only print the table of the results that are there.")
@click.option("--jobs", "processes", type=click.IntRange(1), help="Trainings at once; one a core unless given.")
@click.option("--results", type=click.Path(path_type=Path), default=RESULTS)
@click.option("--out", type=click.Path(path_type=Path), default=OUT, help="Folder for pretrained models and what is finished.")
def main(names: tuple[str, ...], budgets: tuple[float, ...], show: bool, processes: int | None, results: Path, out: Path) -> None:
    """Table of found schemes against what the same bytes buy without a search."""
    if show:
        print(table([Row(**row) for row in json.loads(results.read_text(encoding="utf-8"))]))
        return
    chosen = [task_of(name) for name in names or NAMES]
    if missing := [task.missing[0] for task in chosen if task.missing]:
        print(f"{missing[0]} is absent: nothing to measure.")
        return
    jobs = Jobs(processes, cache=out / "cache")
    with training_bar() as progress:
        made = [row for task in chosen for row in rows_of(task, sorted(budgets), out, jobs, progress)]
    again = {(row.task, row.budget) for row in made}
    kept = [Row(**row) for row in json.loads(results.read_text(encoding="utf-8"))] if results.is_file() else []
    rows = [*(row for row in kept if (row.task, row.budget) not in again), *made]
    rows.sort(key=lambda row: (NAMES.index(row.task), row.budget, ("full", "found", *OTHERS, LIMIT).index(row.method)))
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
