# SPDX-License-Identifier: Apache-2.0
"""How well int8 networks learn: each method of training on tasks whose world changes, over three seeds, on held-back samples.

Run it with `make learning`. Every finished row is added to benchmarks/results/int8_learning.json at once, and rows that are there are
not measured again: an interrupted run goes on where it stopped. All runs are on board `host`, whose results are those of every board.
"""

from __future__ import annotations

import json
import os
import signal
import statistics
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from fcntl import LOCK_EX, flock
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import tasks

from tinytrain.atomic import write_text
from tinytrain.compiler import Options, compile_model, write
from tinytrain.data.dataset import Dataset
from tinytrain.device.project import Project
from tinytrain.errors import DeviceError, TinytrainError
from tinytrain.gradient.loss_scale import LossScale
from tinytrain.gradient.update import Optimiser
from tinytrain.learn.outputs import evaluate
from tinytrain.learn.training import train_decaying
from tinytrain.report.live import Progress, Quiet, training_bar

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results" / "int8_learning.json"
OUT = HERE / "out" / "learning"
SEEDS = (0, 1, 2)
TUNING_SEED = 100                                         # of no row
PROCESSES = 2


@dataclass(frozen=True)
class Method:
    """A way to train: on the float model or the quantised one, with these options of the compiler and its optimiser."""

    name: str
    roundings: tuple[str, ...]
    int8: bool = True
    options: dict[str, Any] = field(default_factory=dict)
    optimiser: dict[str, Any] = field(default_factory=dict)
    rate_of: str = ""                                     # the method whose learning rate it takes, where it has none of its own


METHODS = (
    Method("fp32", ("none",), int8=False, optimiser={"momentum": 0.9}),
    Method("fp32_adam", ("none",), int8=False, optimiser={"kind": "adam"}),
    *(Method(name, ("none",), int8=False, options={"dtype": "fp16", **options}, optimiser={"momentum": 0.9, **optimiser}, rate_of="fp32")
      for name, options, optimiser in (
          ("fp16", {}, {}), ("fp16_no_master", {}, {"master": False}),
          ("fp16_scale_1", {"loss_scale": LossScale(1.0, steps=0)}, {}),      # what loss scaling is for
      )),
    Method("int8_naive", ("stochastic", "nearest", "residual"), options={"qas": False}, optimiser={"momentum": 0.9}),
    Method("int8_naive_same_rate", ("stochastic",), options={"qas": False}, optimiser={"momentum": 0.9}, rate_of="fp32"),
    Method("int8_naive_adam", ("stochastic", "nearest", "residual"), options={"qas": False}, optimiser={"kind": "adam"}),
    # each optimiser as the tool has it, at the rate of the float network
    Method("int8_qas", ("stochastic", "nearest", "residual", "truncate"), optimiser={"momentum": 0.9}),
    Method("int8_adam", ("stochastic", "nearest", "residual"), optimiser={"kind": "adam"}, rate_of="fp32_adam"),
    Method("int8_nesterov", ("stochastic",), optimiser={"momentum": 0.9, "nesterov": True}, rate_of="fp32"),
    Method("int8_momentum_int8", ("stochastic",), optimiser={"momentum": 0.9, "int8_momentum": True}, rate_of="fp32"),
    Method("int8_sgd", ("stochastic",), rate_of="int8_integer"),
    Method("int8_integer", ("stochastic", "nearest"), options={"grad": "int8"}),
    *(Method(f"int8_integer_{name}", ("stochastic",), options={"grad": "int8"},
             optimiser={"momentum": 0.9, "int8_momentum": True, "nesterov": name == "nesterov"}, rate_of="fp32")
      for name in ("momentum", "nesterov")),
)


@dataclass(frozen=True)
class Case:
    """One row to measure."""

    task: str
    method: str
    rounding: str
    seed: int


@dataclass(frozen=True)
class Row(Case):
    """Accuracy on held-back samples after training, from 0 to 1; RAM is arena, context and one sample with its label."""

    accuracy: float
    ram_bytes: int
    command: str

    @property
    def case(self) -> Case:
        return Case(self.task, self.method, self.rounding, self.seed)


def task_of(name: str) -> tasks.Task:
    return next(task for task in tasks.TASKS if task.name == name)


def method_of(name: str) -> Method:
    return next(method for method in METHODS if method.name == name)


def cases(chosen: Iterable[tasks.Task], methods: Iterable[Method], roundings: Iterable[str], seeds: Iterable[int]) -> list[Case]:
    return [
        Case(task.name, method.name, rounding, seed)
        for task in chosen for method in methods for rounding in method.roundings if rounding in roundings for seed in seeds
    ]


def project(case: Case, start: tasks.Start, rate: float, work: Path) -> Project:
    """The task's model compiled for the host as the method wants it; all seeds share one, which the first to come makes."""
    method = method_of(case.method)
    chosen = {**method.optimiser, "rounding": case.rounding} if method.int8 else method.optimiser
    optimiser = Optimiser(rate, **chosen)
    model = start.quantised if method.int8 else start.model
    folder = work / f"{case.task}-{case.method}-{case.rounding}-{rate:g}"
    with open(f"{folder}.lock", "w") as lock:
        flock(lock, LOCK_EX)
        if not folder.exists():
            write(compile_model(model, Options(optimiser=optimiser, **method.options)), folder)
        made = Project.open(folder)
        made.elf()
    return made


def learn(case: Case, rate: float, epochs: int, adapt: Dataset, held: Dataset, out: Path, work: Path) -> tuple[float, int]:
    """(accuracy on `held`, bytes of RAM) after training; 0 where the loss grew out of all numbers."""
    with project(case, tasks.start(task_of(case.task), out), rate, work).session() as session:
        ram = session.info.ram_bytes
        try:
            train_decaying(session, adapt, rate, epochs, case.seed)
        except DeviceError:
            return 0.0, ram
        return evaluate(session, held, Quiet()).accuracy or 0.0, ram


def measure(case: Case, epochs: int | None, out: Path, work: Path) -> Row:
    task = task_of(case.task)
    world = task.world()
    rate = task.rates[method_of(case.method).rate_of or case.method]
    accuracy, ram = learn(case, rate, epochs or task.epochs, world.adapt, world.held, out, work)
    command = f"python benchmarks/int8_learning.py --task {case.task} --method {case.method} --rounding {case.rounding} --seed {case.seed}"
    return Row(case.task, case.method, case.rounding, case.seed, accuracy, ram, command + (f" --epochs {epochs}" if epochs else ""))


def tune(case: Case, rate: float, epochs: int | None, out: Path, work: Path) -> float:
    """Accuracy with another learning rate, on a fifth of the samples to learn from that is not learned from."""
    task = task_of(case.task)
    adapt, held = tasks.parts(task.world().adapt, len(task.world().adapt) * 4 // 5)
    return learn(case, rate, epochs or task.epochs, adapt, held, out, work)[0]


def read(path: Path) -> list[Row]:
    return [Row(**row) for row in json.loads(path.read_text(encoding="utf-8"))] if path.is_file() else []


def save(path: Path, rows: list[Row]) -> None:
    """In the order of the table, whatever order they were measured in."""
    order = [m.name for m in METHODS], [t.name for t in tasks.TASKS]
    rows = sorted(rows, key=lambda r: (order[1].index(r.task), order[0].index(r.method), r.rounding, r.seed))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, "[\n" + ",\n".join("  " + json.dumps(asdict(row)) for row in rows) + "\n]\n")


def pool() -> ProcessPoolExecutor:
    # a worker dies of Ctrl-C without a word: its row is not finished, and the next run measures it
    return ProcessPoolExecutor(PROCESSES, get_context("spawn"), signal.signal, (signal.SIGINT, signal.SIG_DFL))


@contextmanager
def folder_in(out: Path) -> Iterator[Path]:
    """A folder for what is compiled; it goes when the run ends."""
    out.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=out) as work:
        yield Path(work)


def finished(futures: Iterable[Future[Any]]) -> Iterator[Future[Any]]:
    """As they finish; when one fails or the user stops, those that wait are dropped."""
    waiting = list(futures)
    try:
        yield from as_completed(waiting)
    finally:
        for future in waiting:
            future.cancel()


def run(wanted: list[Case], epochs: int | None, results: Path, out: Path, progress: Progress) -> list[Row]:
    """Measure what `results` does not have yet; returns all rows that were wanted."""
    rows = read(results)
    left = [case for case in wanted if case not in {row.case for row in rows}]
    if len(left) < len(wanted):
        progress.say(f"{len(wanted) - len(left)} of {len(wanted)} rows are there already; --anew measures them again.")
    with folder_in(out) as work, pool() as workers:
        names = dict.fromkeys(case.task for case in left)
        pretraining = {workers.submit(tasks.start, task_of(name), out): name for name in names}
        progress.start("pretrain", len(names))
        for future in finished(pretraining):
            begin: tasks.Start = future.result()
            progress.advance(pretraining[future])
            progress.say(f"{pretraining[future]:<8} pretrained: {begin.before:.1%}; after the change of the world {begin.shifted:.1%}")
        progress.start("learn", len(left))
        for future in finished([workers.submit(measure, case, epochs, out, work) for case in left]):
            row: Row = future.result()
            rows.append(row)
            save(results, rows)
            line = f"{row.task} {row.method} {row.rounding} seed {row.seed}: {row.accuracy:.2%}"
            progress.advance(line)
            progress.say(line)
    return [row for row in rows if row.case in set(wanted)]


HEAD = f"  {'method':<22}{'rounding':<12}{'accuracy %':>14}{'to fp32':>10}{'RAM in bytes':>14}"


def table(rows: list[Row]) -> str:
    """Mean ± standard deviation over the seeds, and the distance to fp32 in points."""
    lines = []
    for task in tasks.TASKS:
        of_task = [row for row in rows if row.task == task.name]
        float_rows = [row.accuracy for row in of_task if row.method == "fp32"]
        if of_task:
            lines += ["", f"{task.name}: {task.title}", HEAD]
        for method in METHODS:
            for rounding in method.roundings:
                found = [row for row in of_task if (row.method, row.rounding) == (method.name, rounding)]
                if not found:
                    continue
                mean = statistics.mean(row.accuracy for row in found)
                spread = statistics.stdev(row.accuracy for row in found) if len(found) > 1 else 0.0
                distance = f"{100 * (mean - statistics.mean(float_rows)):+.2f}" if float_rows else ""
                ram = max(row.ram_bytes for row in found)
                lines.append(f"  {method.name:<22}{rounding:<12}{100 * mean:>7.2f} ± {100 * spread:.2f}{distance:>10}{ram:>14,}")
    return "\n".join(lines)


ROUNDINGS = tuple(dict.fromkeys(rounding for method in METHODS for rounding in method.roundings))


@click.command()
@click.option("--task", "names", multiple=True, type=click.Choice([t.name for t in tasks.TASKS]), help="Only this task.")
@click.option("--method", "methods", multiple=True, type=click.Choice([m.name for m in METHODS]), help="Only this method.")
@click.option("--rounding", "roundings", multiple=True, type=click.Choice(ROUNDINGS), help="Only this rounding.")
@click.option("--seed", "seeds", multiple=True, type=click.IntRange(0), help="Only this seed.")
@click.option("--epochs", type=click.IntRange(1), help="Other than the task's own number.")
@click.option("--rate", "rates", multiple=True, type=click.FloatRange(0, min_open=True),
              help=f"Try learning rates on a fifth of the samples to learn from, with seed {TUNING_SEED} or --seed; writes no rows.")
@click.option("--anew", is_flag=True, help="Measure again what is there.")
@click.option("--results", type=click.Path(path_type=Path), default=RESULTS)
@click.option("--out", type=click.Path(path_type=Path), default=OUT, help="Folder for pretrained models.")
def main(
    names: tuple[str, ...], methods: tuple[str, ...], roundings: tuple[str, ...], seeds: tuple[int, ...], epochs: int | None,
    rates: tuple[float, ...], anew: bool, results: Path, out: Path,
) -> None:
    """Table of methods × roundings × seeds for all tasks whose data is there."""
    chosen = [task for task in tasks.TASKS if not names or task.name in names]
    for task in chosen:
        if task.missing:
            print(f"{task.name} is left out: there is no {tasks.DATA / task.missing[0]}.")
    chosen = [task for task in chosen if not task.missing]
    used = [method for method in METHODS if not methods or method.name in methods]
    if rates:
        try_rates(cases(chosen, used, roundings or ROUNDINGS, seeds or [TUNING_SEED]), rates, epochs, out)
        return
    wanted = cases(chosen, used, roundings or ROUNDINGS, seeds or SEEDS)
    if anew and results.is_file():
        save(results, [row for row in read(results) if row.case not in set(wanted)])
    with training_bar() as progress:
        rows = run(wanted, epochs, results, out, progress)
    print(table(rows))
    print(f"\n{os.path.relpath(results)}")


def try_rates(tried: list[Case], rates: tuple[float, ...], epochs: int | None, out: Path) -> None:
    with folder_in(out) as work, pool() as workers:
        list(workers.map(tasks.start, (task_of(name) for name in dict.fromkeys(case.task for case in tried)), [out] * len(tried)))
        futures = {workers.submit(tune, case, rate, epochs, out, work): (case, rate) for case in tried for rate in rates}
        for future in finished(futures):
            case, rate = futures[future]
            print(f"{case.task} {case.method} {case.rounding} seed {case.seed} learning rate {rate:g}: {future.result():.2%}", flush=True)


if __name__ == "__main__":
    try:
        main(standalone_mode=True)
    except TinytrainError as error:
        print(f"learning: {error}", file=sys.stderr)
        sys.exit(2)
