# SPDX-License-Identifier: Apache-2.0
"""A microcontroller learns on when its world changes: handwritten digits, suddenly rotated by 90 degrees.

A small CNN is pretrained on upright digits (host twin). Then the digits are turned: accuracy collapses. An emulated STM32F405 trains on
samples of the new world and recovers. Accuracy is measured on samples that no training has seen. Results go to examples/digits/out.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from pathlib import Path

import click
import numpy as np

from tinytrain import zoo
from tinytrain.atomic import write_bytes, write_text
from tinytrain.compiler import Options, compile_model, write
from tinytrain.data.dataset import Dataset
from tinytrain.device.project import Project
from tinytrain.errors import TinytrainError
from tinytrain.gradient.update import Optimiser
from tinytrain.ir.types import Array
from tinytrain.learn.outputs import evaluate
from tinytrain.learn.rates import Rates
from tinytrain.learn.training import train_epoch
from tinytrain.learn.weights import export_learned
from tinytrain.report.live import Progress, training_bar
from tinytrain.target.board import load_board

OUT = Path(__file__).parent / "out"
KIT = "netduinoplus2"
PRETRAIN, ADAPT = 900, 597                                # samples; the rest of the 1,797 is held back
PRETRAIN_EPOCHS, ADAPT_EPOCHS = 6, 6


def digits() -> tuple[Array, Array]:
    """scikit-learn's 1,797 handwritten digits: x (n, 8, 8, 1) in [0, 1], labels (n)."""
    from sklearn.datasets import load_digits

    found = load_digits()
    order = np.random.default_rng(0).permutation(len(found.target))
    return found.images[order, :, :, None].astype(np.float32) / 16, found.target[order].astype(np.int32)


def rotated(samples: Dataset) -> Dataset:
    return Dataset(np.ascontiguousarray(np.rot90(samples.x, axes=(1, 2))), samples.y)


def compiled(model: Path, board: str, learning_rate: float) -> Project:
    """Compile for a board into OUT, replacing what an earlier run left there."""
    folder = OUT / board
    write(compile_model(model, Options(board=board, loss="ce", scheme="full", optimiser=Optimiser(learning_rate))), folder, force=True)
    return Project.open(folder)


def pretrain(samples: Dataset, held: Dataset, progress: Progress) -> tuple[Path, float]:
    """Train the built-in CNN on the host twin: the ONNX file with the learned weights, and its accuracy."""
    write_bytes(OUT / "digits.onnx", zoo.model("cnn").SerializeToString())
    project, rates = compiled(OUT / "digits.onnx", "host", 0.05), Rates(0.05, PRETRAIN_EPOCHS * len(samples))
    with project.session() as session:
        for number in range(1, PRETRAIN_EPOCHS + 1):
            accuracy = train_epoch(session, samples, held, number, 0, progress, rates=rates).accuracy or 0.0
        progress.say(f"pretrained on {len(samples):,} upright digits (host twin): accuracy {accuracy:.1%}")
        return export_learned(project, session), accuracy


def adapt(model: Path, board: str, samples: Dataset, held: Dataset, progress: Progress) -> tuple[Project, list[float]]:
    """Train on the board in its new world; accuracy on the held-back samples before, and after each epoch."""
    project, rates = compiled(model, board, 0.02), Rates(0.02, ADAPT_EPOCHS * len(samples))
    with project.session() as session:
        curve = [evaluate(session, held, progress).accuracy or 0.0]
        progress.say(f"digits turned by 90 degrees: accuracy {curve[0]:.1%}")
        for number in range(1, ADAPT_EPOCHS + 1):
            curve.append(train_epoch(session, samples, held, number, 0, progress, rates=rates).accuracy or 0.0)
            progress.say(f"  epoch {number:>2} on {project.board.title}: accuracy {curve[-1]:.1%}")
    return project, curve


def measured(project: Project, samples: Dataset) -> dict[str, int | None]:
    """Instructions of a training step (emulators count them), deepest stack, arena and flash in bytes."""
    assert samples.y is not None
    with project.session(icount=not project.board.is_host) as session:
        steps = [session.train_step(samples.x[i], samples.y[i]).instructions for i in range(3)]
        counters = session.counters()
    sizes = project.sizes()
    return {
        "instructions": steps[-1], "arena_bytes": counters.arena_bytes, "stack_bytes": counters.stack_bytes or None,
        "stack_reserved_bytes": project.board.stack_bytes, "flash_bytes": sizes.flash_bytes,
    }


def plot(curve: list[float], before: float, title: str) -> Path:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4), layout="constrained")
    axes.plot(range(len(curve)), [100 * a for a in curve], marker="o", label="rotated digits, learning on the device")
    axes.axhline(100 * before, linestyle="--", color="grey", label="upright digits, before the change")
    axes.set(xlabel="epochs on the device", ylabel="accuracy on held-back samples (%)", ylim=(0, 100), title=title)
    axes.set_xticks(range(len(curve)))
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    figure.savefig(OUT / "curve.png", dpi=120)
    return OUT / "curve.png"


def shown(value: int | None, unit: str) -> str:
    return f"{value:,} {unit}" if value is not None else "not measured on the host"


@click.command()
@click.option("--board", help="Board to learn on; by default the emulated STM32F405, or the host where its tools are missing.")
def main(board: str | None) -> None:
    began = time.monotonic()
    if board is None:
        kit = load_board(KIT)
        missing = [tool for tool in (kit.toolchain.cc[0], kit.machine[0]) if shutil.which(tool) is None]
        board = "host" if missing else KIT
        if missing:
            print(f"{' and '.join(missing)} missing: the demo runs on board `host`, the same C compiled for this computer.")
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)
    x, y = digits()
    upright = Dataset(x[PRETRAIN + ADAPT :], y[PRETRAIN + ADAPT :])
    with training_bar() as progress:
        model, before = pretrain(Dataset(x[:PRETRAIN], y[:PRETRAIN]), upright, progress)
        fresh = rotated(Dataset(x[PRETRAIN : PRETRAIN + ADAPT], y[PRETRAIN : PRETRAIN + ADAPT]))
        project, curve = adapt(model, board, fresh, rotated(upright), progress)
        numbers = measured(project, fresh)
    path = plot(curve, before, project.board.title)
    seconds = time.monotonic() - began
    result = {"board": board, "accuracy_before": before, "accuracy_shifted": curve[0], "accuracy_after": curve[-1], "seconds": seconds}
    write_text(OUT / "result.json", json.dumps({**result, **numbers, "curve": curve}, indent=2) + "\n")
    print(
        f"\naccuracy      before {before:.1%}   after the change {curve[0]:.1%}   after training on the device {curve[-1]:.1%}\n"
        f"device        {project.board.title}\n"
        f"arena         {shown(numbers['arena_bytes'], 'B')} (parameters, activations, gradients)\n"
        f"stack         {shown(numbers['stack_bytes'], 'B')} of {project.board.stack_bytes:,} B reserved\n"
        f"flash         {shown(numbers['flash_bytes'], 'B')}\n"
        f"instructions  {shown(numbers['instructions'], 'a training step (forward, backward, update)')}\n"
        f"curve         {os.path.relpath(path)}\n"
        f"time          {seconds:.0f} s"
    )


if __name__ == "__main__":
    try:
        main(standalone_mode=True)
    except TinytrainError as error:
        print(f"demo: {error}", file=sys.stderr)
        sys.exit(2)
