# SPDX-License-Identifier: Apache-2.0
"""Eleven networks (benchmarks/models) on two emulated boards: compiled, trained for some steps, compared with the NumPy reference.

    python benchmarks/models_train.py                       all
    python benchmarks/models_train.py --keep                those that are not in the result yet: an interrupted run goes on
    python benchmarks/models_train.py lstm gru --steps 5    some of them

All weights are trained where that fits the board, else as many of the last layers as do; and beside that the last two layers only. Outputs,
losses and updates must be those of the reference, and bit for bit those of the board's twin. Each row is written to
benchmarks/results/models.json as soon as it is there.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from models import LOSSES, MODELS
from models.settled import Steps, Trained, settled

from tinytrain.atomic import write_text
from tinytrain.compiler import Compiled, Options, compile_model, write
from tinytrain.device.project import Project
from tinytrain.errors import DoesNotFit
from tinytrain.gradient.update import Optimiser
from tinytrain.target.board import load_board

RESULTS = Path(__file__).resolve().parent / "results" / "models.json"
BOARDS = ("mps2-an500", "riscv-virt")
SCHEMES = ("full", "last:2")                              # that are asked for
SMALLER = tuple(f"last:{k}" for k in (32, 16, 8, 4, 2, 1)) # that are trained where all weights do not fit
STEPS = 3
RATE = 1e-3
TOLERANCE = 1e-4                                          # of the largest output, loss, update of a tensor
SECONDS = 600.0                                           # that one step may take


Key = tuple[str, str, str]                                # model, board, scheme that was asked for
ALL: list[Key] = [(model, board, scheme) for model in MODELS for board in BOARDS for scheme in SCHEMES]


@dataclass(frozen=True)
class Row:
    """`scheme` is the one asked for, or the largest that fits; `difference` the largest from the reference; `twin`: all bits are those of
    the board's twin.
    """

    model: str
    board: str
    asked: str
    scheme: str
    instructions: int
    ram_bytes: int
    flash_bytes: int
    difference: float
    twin: bool

    @property
    def key(self) -> Key:
        return self.model, self.board, self.asked

    @property
    def right(self) -> bool:
        return self.difference <= TOLERANCE and self.twin


def compiled(path: Path, board: str, scheme: str) -> Compiled:
    return compile_model(path, Options(board, LOSSES.get(path.stem, "ce"), scheme, Optimiser(RATE)))


def fitting(path: Path, board: str, asked: str) -> tuple[Compiled, str]:
    """With the scheme asked for or the largest that fits, and its name."""
    refusal: DoesNotFit | None = None
    for scheme in (asked, *SMALLER):
        try:
            return compiled(path, board, scheme), scheme
        except DoesNotFit as error:
            refusal = error
    assert refusal is not None
    raise refusal


def built(program: Compiled, folder: Path) -> Project:
    write(program, folder)
    return Project.open(folder)


def trained(project: Project, steps: Steps, *, icount: bool = False) -> tuple[Trained, int, int]:
    """What the device makes of them, instructions of the costliest step, bytes of RAM."""
    with project.session(icount=icount, timeout=SECONDS) as session:
        output = session.infer(steps.x[0])
        made = [session.train_step(x, target) for x, target in zip(steps.x, steps.target, strict=True)]
        losses = np.array([step.loss for step in made], np.float32)
        ram = session.info.ram_bytes + session.counters().stack_bytes
        return Trained(output, losses, session.get_params()), max(step.instructions or 0 for step in made), ram


def rows(keys: Sequence[Key], count: int) -> Iterator[Row]:
    """One for each; what the reference and a twin make of a model is computed once for each scheme."""
    with tempfile.TemporaryDirectory() as folder:
        steps: dict[tuple[str, str], Steps] = {}
        twins: dict[tuple[str, str, str], Trained] = {}
        for number, (model, board, asked) in enumerate(keys):
            path = Path(folder) / f"{model}.onnx"
            onnx.save(MODELS[model](), path)
            program, scheme = fitting(path, board, asked)
            if (model, scheme) not in steps:
                steps[model, scheme] = settled(program.program, count)
            step, twin = steps[model, scheme], load_board(board).twin
            if (model, scheme, twin) not in twins:
                twins[model, scheme, twin], _, _ = trained(built(compiled(path, twin, scheme), Path(folder) / f"{number}-twin"), step)
            project = built(program, Path(folder) / f"{number}")
            made, instructions, ram = trained(project, step, icount=True)
            same = made.same_bits(twins[model, scheme, twin])
            yield Row(model, board, asked, scheme, instructions, ram, project.sizes().flash_bytes, step.apart(made), same)


def text(row: Row) -> str:
    head = f"{row.model:<13} {row.board:<11} {row.scheme:<8}{row.instructions:>13,} instructions a step"
    verdict = "equal" if row.right else "DIFFERS" if row.twin else "DIFFERS FROM ITS TWIN"
    return f"{head}  {row.ram_bytes:>10,} B RAM  {row.flash_bytes:>9,} B flash  {verdict} ({row.difference:.0e})"


def main() -> int:
    parser = argparse.ArgumentParser(description="Eleven networks on two boards.")
    parser.add_argument("names", nargs="*", metavar="MODEL", help=f"of {', '.join(MODELS)}")
    parser.add_argument("--board", action="append", choices=BOARDS)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--keep", action="store_true", help="leave alone what is in the result already")
    given = parser.parse_args()
    if unknown := set(given.names) - set(MODELS):
        parser.error(f"there is no model {', '.join(sorted(unknown))}; expected some of {', '.join(MODELS)}")
    stored: list[dict[str, Any]] = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.is_file() else []
    kept = {row.key: row for row in (Row(**fields) for fields in stored)}
    chosen = [key for key in ALL if key[0] in (given.names or MODELS) and key[1] in (given.board or BOARDS)]
    for row in rows([key for key in chosen if not (given.keep and key in kept)], given.steps):
        kept[row.key] = row
        print(text(row), flush=True)
        write_text(RESULTS, json.dumps([asdict(kept[key]) for key in ALL if key in kept], indent=1) + "\n")
    return int(not all(kept[key].right for key in chosen))


if __name__ == "__main__":
    sys.exit(main())
