# SPDX-License-Identifier: Apache-2.0
"""Who chooses the ranks of adapters under a budget: all layers alike, gradients (`--method lowrank:auto`), or ordered dropout (Maestro).

Run it with `make bench-ranks`. A network was trained for a world (benchmarks/tasks.py), which then changes; adapters beside all its layers
learn the new one, in a budget of RAM on a Cortex-M4 that adapters of a quarter and of half the ranks of all layers take. Ordered dropout
(Horváth et al., arXiv 2308.14929) trains adapters of full rank for an epoch, each step with only the first so many ranks of each, drawn at
random; what a rank then adds to the weight says what it is worth. Learning rates are chosen on a fifth of the samples that is not
learned from, each way with the same candidates; the held-back samples are seen by the chosen ones alone. Every finished run is added to
benchmarks/results/ranks.json at once, and runs that are there are not made again.
"""

from __future__ import annotations

import dataclasses
import json
import os
import statistics
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tasks

from tinytrain.atomic import write_text
from tinytrain.compiler import Options, compile_model, load_forward, write
from tinytrain.data.dataset import Dataset
from tinytrain.device.project import Project
from tinytrain.errors import LearningError
from tinytrain.gradient.methods.lowrank import DOWN, UP, LowRank, adaptable
from tinytrain.ir.types import Array
from tinytrain.learn.outputs import evaluate
from tinytrain.learn.training import train_decaying
from tinytrain.report.live import Quiet
from tinytrain.schemes.scheme import weights_of
from tinytrain.search import ranks
from tinytrain.search.cost import Costs

HERE = Path(__file__).resolve().parent
RESULTS, OUT = HERE / "results" / "ranks.json", HERE / "out" / "ranks"
BOARD = "mps2-an386"
TASKS = ("digits", "har")
SHARES = (0.25, 0.5)                                      # of the ranks that adapters can have: what the budget has room for
RATES = {"digits": (0.01, 0.02, 0.04), "har": (0.0015, 0.003, 0.006)}
MOST = 1000                                               # samples to learn from, and held back
EPOCHS, SEEDS, TUNING_SEED = 4, range(5), 100


@dataclass(frozen=True, eq=False)
class Setting:
    """A task under a budget; `ranks` are what each way comes to."""

    task: str
    model: Path
    share: float
    budget_bytes: int
    ranks: dict[str, str]


def options(method: str, board: str = "host") -> Options:
    return Options(board=board, method=method, exact_seconds=0.0)


def made(model: Path, method: str) -> Project:
    name = f"{model.parent.name}-{abs(hash(method)):x}"
    write(compile_model(model, options(method)), OUT / "projects" / name, force=True)
    return Project.open(OUT / "projects" / name)


def ram_bytes(model: Path, method: str) -> int:
    costs = Costs(model, options(method, BOARD))
    return costs.cost(ranks.chosen_scheme("full", costs.forward, costs.frozen, costs.options)).ram_bytes


def settings(task: tasks.Task, learn: Dataset) -> Iterator[Setting]:
    model = tasks.start(task, OUT).model
    prepared, _, forward = load_forward(model, options("backprop"))
    named = weights_of(("full",), forward)
    most = {one.node.name: one.most for one in adaptable(prepared.model) if one.node.name in named}
    by_gradients, plain = [], options("backprop")
    samples = ranks.some(learn)
    assert plain.objective is not None
    found = ranks.mean_gradients(forward, plain.objective, samples)
    by_gradients = list(ranks.ladders(forward, {name: found[name, "weight"] for name in most}, most))
    worth = by_ordered_dropout(made(model, whole(most)), most, learn, RATES[task.name][0])
    by_dropout = [dataclasses.replace(one, worth=worth[one.layer]) for one in by_gradients]
    for share in SHARES:
        alike = [f"lowrank:{rank}" for rank in range(1, max(most.values()) + 1)]
        budget = ram_bytes(model, whole({name: max(1, round(share * rank)) for name, rank in most.items()}))
        chosen = {"alike": max((one for one in alike if ram_bytes(model, one) <= budget), key=lambda one: int(one[8:]))}
        for way, given in (("gradients", by_gradients), ("ordered dropout", by_dropout)):
            chosen[way] = ranks.fitting(model, options("lowrank:auto", BOARD), budget, given).method
        yield Setting(task.name, model, share, budget, chosen)


def whole(most: dict[str, int]) -> str:
    return LowRank(ranks=tuple(most.items())).text


def by_ordered_dropout(project: Project, most: dict[str, int], samples: Dataset, rate: float) -> dict[str, list[float]]:
    """What each rank of each layer adds to the weight, squared: of an epoch in which each step has the first so many ranks alone."""
    assert samples.y is not None
    random = np.random.default_rng(TUNING_SEED)
    keys = {p.name: (p.key, p.shape) for p in project.manifest.parameters}
    with project.session() as session:
        session.set_lr(rate)
        for i in random.permutation(len(samples)):
            kept: dict[str, Array] = {}
            for layer, rank in most.items():
                key, shape = keys[f"{layer}{UP}.weight"]
                assert shape[-1] == rank, (layer, shape)
                kept[key] = session.get_params(key)[key].reshape(-1, rank)
                first = random.integers(1, rank + 1)
                session.set_params({key: np.where(np.arange(rank) < first, kept[key], 0)})
                kept[key] = np.where(np.arange(rank) < first, np.nan, kept[key])      # what has not taken part comes back
            session.train_step(samples.x[i], samples.y[i])
            for key, before in kept.items():
                after = session.get_params(key)[key].reshape(before.shape)
                session.set_params({key: np.where(np.isnan(before), after, before)})
        found = session.get_params()
    worth = {}
    for layer, rank in most.items():
        up, down = (found[keys[f"{layer}{end}.weight"][0]] for end in (UP, DOWN))
        squares = np.square(up.reshape(-1, rank)).sum(axis=0) * np.square(down.reshape(rank, -1)).sum(axis=1)
        worth[layer] = squares.tolist()
    return worth


def accuracy(project: Project, learn: Dataset, held: Dataset, rate: float, seed: int) -> float:
    """In %, after training; 0 where it fails."""
    with project.session() as session:
        try:
            train_decaying(session, learn, rate, EPOCHS, seed)
        except LearningError:
            return 0.0
        return 100 * (evaluate(session, held, Quiet()).accuracy or 0.0)


def line(way: str, row: dict[str, Any]) -> str:
    held = [row[f"held {seed}"] for seed in SEEDS]
    spread = f"{statistics.mean(held):5.1f} ± {statistics.stdev(held):.1f} (worst {min(held):.1f})"
    return f"  {way:16} {spread}   {row['ram_bytes']:,} B   {row['method']}"


def measure(found: dict[str, Any], setting: Setting, way: str, learn: Dataset, held: Dataset) -> dict[str, Any]:
    method = setting.ranks[way]
    row: dict[str, Any] = found.setdefault(f"{setting.task} {setting.share} {way}", {})
    if row.get("method") != method:
        row.clear()
    row |= {"method": method, "budget_bytes": setting.budget_bytes, "ram_bytes": ram_bytes(setting.model, method)}

    def run(key: str, *how: Any) -> None:
        if key not in row:
            row[key] = accuracy(project, *how)
            write_text(RESULTS, json.dumps(found, indent=1) + "\n")

    project = made(setting.model, method)
    part = tasks.parts(learn, len(learn) * 4 // 5)
    for rate in RATES[setting.task]:
        run(f"validate {rate}", *part, rate, TUNING_SEED)
    row["rate"] = max(RATES[setting.task], key=lambda rate: row[f"validate {rate}"])
    for seed in SEEDS:
        run(f"held {seed}", learn, held, row["rate"], seed)
    return row


def main(chosen: Sequence[str]) -> int:
    found: dict[str, Any] = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.is_file() else {}
    for task in (task for task in tasks.TASKS if task.name in (chosen or TASKS)):
        if task.missing:
            print(f"{task.name} is left out: there is no {tasks.DATA / task.missing[0]}.")
            continue
        world = task.world()
        learn, held = (tasks.parts(samples, min(MOST, len(samples)))[0] for samples in (world.adapt, world.held))
        for setting in settings(task, learn):
            print(f"{task.title}, {setting.budget_bytes:,} B", flush=True)
            for way in setting.ranks:
                print(line(way, measure(found, setting, way, learn, held)), flush=True)
    print(f"\n{os.path.relpath(RESULTS)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
