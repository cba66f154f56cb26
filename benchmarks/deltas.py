# SPDX-License-Identifier: Apache-2.0
"""What it costs to send home what a device has learned: bytes and accuracy of each form of `tinytrain pull`.

A small CNN is pretrained on upright digits, compiled, and learns turned ones on the host twin. What it learned is then put into a device
with the compiled weights, as a delta of each form, and accuracy is that of digits which no training has seen. Three orders of the samples;
of these the mean and the worst. Bytes stand beside those of the weights as the model stores them. Writes benchmarks/results/deltas.json.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import click
import numpy as np
from tasks import TASKS, start

from tinytrain.atomic import write_text
from tinytrain.compiler import Options, compile_model, write
from tinytrain.device.project import Project
from tinytrain.gradient.update import Optimiser
from tinytrain.learn import exchange
from tinytrain.learn.compression import Compression
from tinytrain.learn.outputs import evaluate
from tinytrain.learn.training import train_decaying
from tinytrain.report.live import Quiet
from tinytrain.report.text import table

OUT = Path(__file__).parent / "out"
RESULTS = Path(__file__).parent / "results" / "deltas.json"
FORMS = (None, "exact", "topk:0.3", "topk:0.1", "kmeans:16", "kmeans:4", "topk:0.3,kmeans:16", "topk:0.1,kmeans:16")
SEEDS = 3


@click.command()
@click.option("--seeds", type=click.IntRange(1), default=SEEDS, show_default=True)
def main(seeds: int) -> None:
    """Bytes and accuracy of deltas."""
    task = next(task for task in TASKS if task.name == "digits")
    begun, world = start(task, OUT), task.world()
    rows = [["model", "form", "bytes", "times less", "accuracy", "worst"]]
    records = []
    for kind, model, rate in (("fp32", begun.model, task.rates["fp32"]), ("int8", begun.quantised, task.rates["int8_qas"])):
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            write(compile_model(model, Options(optimiser=Optimiser(rate, momentum=0.9))), folder / "project", force=True)
            project = Project.open(folder / "project")
            stored = sum(project.initializers[name].nbytes for name in {p.name for p in project.manifest.parameters})
            found: dict[str, list[tuple[int, float]]] = {}
            for seed in range(seeds):
                with project.session() as session:
                    train_decaying(session, world.adapt, rate, task.epochs, seed)
                    for form in FORMS:
                        compression = Compression.of(form) if form else None
                        exchange.pull(project, session, folder / (form or "plain"), _quiet, changes=True, compression=compression)
                for name in (form or "plain" for form in FORMS):
                    with project.session() as session:
                        exchange.push(project, session, folder / name, _quiet)
                        accuracy = evaluate(session, world.held, Quiet()).accuracy or 0.0
                        found.setdefault(name, []).append(((folder / name).stat().st_size, accuracy))
        for name, results in found.items():
            sizes, accuracies = np.array(results).T
            size, mean, worst = round(sizes.mean()), round(accuracies.mean(), 4), round(accuracies.min(), 4)
            rows.append([kind, name, f"{size:,}", f"{stored / size:.1f}", f"{mean:.1%}", f"{worst:.1%}"])
            records.append({"model": kind, "form": name, "bytes": size, "stored_bytes": stored, "accuracy": mean, "worst": worst,
                            "seeds": seeds, "command": "make bench-deltas"})
    click.echo(table(rows))
    lines = ",\n".join(f"  {json.dumps(record)}" for record in records)
    write_text(RESULTS, f"[\n{lines}\n]\n")


def _quiet(line: str) -> None:
    pass


if __name__ == "__main__":
    main()
