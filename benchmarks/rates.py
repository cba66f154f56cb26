#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Learning rates that `tinytrain lr` finds: accuracy of trainings at them, beside those at the default and at half decades around.

Each task of `make learning`, from its pretrained network (docs/results.md): the rate is found by the samples to learn from alone. Then
the device trains at it for the epochs of the task, in the falling course of `train`, with three orders of the samples, and is measured by
samples that nobody has seen.

    python benchmarks/rates.py [--task NAME] [--show]
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
import tasks

from tinytrain.atomic import write_text
from tinytrain.compiler import Options, compile_model, write
from tinytrain.device.project import Project
from tinytrain.device.session import Session
from tinytrain.gradient.update import Optimiser
from tinytrain.learn.find_rate import RateSearch, find_rate
from tinytrain.learn.outputs import evaluate
from tinytrain.learn.rates import Rates
from tinytrain.learn.training import train_epoch
from tinytrain.learn.yardstick import Diverged
from tinytrain.report.live import Quiet

HERE = Path(__file__).resolve().parent
RESULTS, OUT = HERE / "results" / "rates.json", HERE / "out" / "rates"
DEFAULT, SEEDS = 0.01, 3
GRID = tuple(float(f"{10 ** (i / 2):.1e}") for i in range(-8, 1))
KINDS: dict[str, Callable[[tasks.Start], tuple[Path, Options]]] = {
    "fp32 sgd": lambda start: (start.model, Options(optimiser=Optimiser(DEFAULT))),
    "fp32 momentum 0.9": lambda start: (start.model, Options(optimiser=Optimiser(DEFAULT, momentum=0.9))),
    "fp32 adam": lambda start: (start.model, Options(optimiser=Optimiser(DEFAULT, kind="adam"))),
    "int8 momentum 0.9": lambda start: (start.quantised, Options(optimiser=Optimiser(DEFAULT, momentum=0.9))),
    "int8 --grad int8": lambda start: (start.quantised, Options(optimiser=Optimiser(DEFAULT), grad="int8")),
}


def accuracies(session: Session, world: tasks.World, rate: float, epochs: int, seeds: int) -> list[float]:
    """Of trainings at a rate, one for each order of the samples; 0 where one ran away."""
    found = []
    for seed in range(seeds):
        session.reset()
        rates = Rates(rate, epochs * len(world.adapt))
        try:
            for number in range(1, epochs + 1):
                train_epoch(session, world.adapt, None, number, seed, Quiet(), rates=rates)
            found.append(evaluate(session, world.held, Quiet()).accuracy or 0.0)
        except Diverged:
            found.append(0.0)
    return found


def measured(task: tasks.Task, kind: str) -> dict[str, object]:
    """The rate that is found for a task, and the accuracy there, at the default, and at each rate of the grid (one order)."""
    world, (model, options) = task.world(), KINDS[kind](tasks.start(task, OUT))
    folder = OUT / task.name / kind.replace(" ", "-")
    write(compile_model(model, options), folder, force=True)
    project = Project.open(folder)
    with project.session() as session:
        curve = find_rate(project, session, world.adapt, RateSearch(), Quiet())
        return {
            "rate": curve.suggestion, "found": accuracies(session, world, curve.suggestion, task.epochs, SEEDS),
            "default": accuracies(session, world, DEFAULT, task.epochs, SEEDS),
            "grid": {f"{rate:g}": accuracies(session, world, rate, task.epochs, 1)[0] for rate in GRID},
        }


def table(results: dict[str, dict[str, object]]) -> str:
    lines = ["| | `lr` finds | accuracy, worst | at 0.01, worst | best of nine rates |", "|---|---|---|---|---|"]
    for name, row in results.items():
        found, default, grid = row["found"], row["default"], row["grid"]
        assert isinstance(found, list) and isinstance(default, list) and isinstance(grid, dict)
        best = max(grid, key=lambda rate: grid[rate])
        cells = [f"{np.mean(of):.1%}, {min(of):.1%}" for of in (found, default)]
        lines.append(f"| {name} | {row['rate']:g} | {cells[0]} | {cells[1]} | {grid[best]:.1%} at {best} |")
    return "\n".join(lines)


@click.command()
@click.option("--task", "only", type=click.Choice([task.name for task in tasks.TASKS]), help="Only this one.")
@click.option("--kind", "kinds", type=click.Choice([*KINDS]), multiple=True, help="Only these.")
@click.option("--show", is_flag=True, help="Print what was measured; measure nothing.")
def main(only: str | None, kinds: tuple[str, ...], show: bool) -> None:
    """Measure, and keep each row as soon as it is there."""
    results = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.is_file() else {}
    for task in [] if show else tasks.TASKS:
        for kind in kinds or KINDS:
            name = f"{task.name}, {kind}"
            if task.missing or (only and task.name != only) or name in results:
                continue
            results[name] = measured(task, kind)
            write_text(RESULTS, json.dumps(results, indent=2) + "\n")
            print(name, results[name], flush=True)
    print(table(results))


if __name__ == "__main__":
    main()
