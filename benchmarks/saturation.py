#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How many int8 weights lie at an end of their range, before training and after it: whether a scale would have to be made anew.

Each task of `make learning` in int8, with its learning rate and with one that is HIGHER times as high, three orders of the samples.
A weight that grows out of its range stays at ±127; where many did, another scale for their channel would let them grow on. At least one
weight of each channel lies there to begin with: the largest, by which the scale was chosen.

    python benchmarks/saturation.py [--task NAME] [--show]
"""

from __future__ import annotations

import json
from pathlib import Path
from statistics import mean
from typing import Any

import click
import int8_learning
import tasks

from tinytrain.atomic import write_text
from tinytrain.device.session import Session
from tinytrain.learn.collapse import saturated
from tinytrain.learn.outputs import evaluate
from tinytrain.learn.training import train_decaying
from tinytrain.learn.yardstick import Diverged
from tinytrain.report.live import Quiet
from tinytrain.report.text import table as lined

HERE = Path(__file__).resolve().parent
RESULTS, OUT = HERE / "results" / "saturation.json", HERE / "out" / "learning"
METHODS = {"int8_qas": "QAS", "int8_integer": "--grad int8"}
HIGHER, SEEDS = 4.0, 3


def measured(task: tasks.Task, method: str, times: float, work: Path) -> dict[str, Any]:
    """Parts of the weights, before and after each training, and accuracies on held-back samples: 0 where the training ran away."""
    rate, world = times * task.rates[method], task.world()
    project = int8_learning.project(int8_learning.Case(task.name, method, "stochastic", 0), tasks.start(task, OUT), rate, work)

    def part(session: Session) -> float:
        found = saturated(project, session.get_params())
        assert found is not None, "int8 weights are trained"
        return found.part

    after, accuracy = [], []
    with project.session() as session:
        before = part(session)
        for seed in range(SEEDS):
            session.reset()
            try:
                train_decaying(session, world.adapt, rate, task.epochs, seed)
                accuracy.append(evaluate(session, world.held, Quiet()).accuracy or 0.0)
            except Diverged:
                accuracy.append(0.0)
            after.append(part(session))
    return {"rate": rate, "before": before, "after": after, "accuracy": accuracy}


def table(results: dict[str, dict[str, Any]]) -> str:
    rows = [["in int8", "rate", "before %", "after %, most", "accuracy %, worst"]]
    for name, row in results.items():
        after, reached = ([100 * one for one in row[key]] for key in ("after", "accuracy"))
        cells = [f"{100 * row['before']:.2f}", f"{mean(after):.2f}, {max(after):.2f}", f"{mean(reached):.1f}, {min(reached):.1f}"]
        rows.append([name, f"{row['rate']:g}", *cells])
    return lined(rows)


@click.command()
@click.option("--task", "only", type=click.Choice([task.name for task in tasks.TASKS]), help="Only this one.")
@click.option("--show", is_flag=True, help="Print what was measured; measure nothing.")
def main(only: str | None, show: bool) -> None:
    """Measure, and keep each row as soon as it is there."""
    results = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.is_file() else {}
    with int8_learning.folder_in(OUT) as work:
        for task in [] if show else tasks.TASKS:
            for method, title in METHODS.items():
                for times in (1.0, HIGHER):
                    name = f"{task.name}, {title}{f', rate ×{times:g}' if times > 1 else ''}"
                    if not task.missing and (not only or task.name == only) and name not in results:
                        results[name] = measured(task, method, times, work)
                        write_text(RESULTS, json.dumps(results, indent=2) + "\n")
                        print(name, results[name], flush=True)
    print(table(results))


if __name__ == "__main__":
    main()
