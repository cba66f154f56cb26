# SPDX-License-Identifier: Apache-2.0
"""Eleven networks (benchmarks/models) on two emulated boards: compiled, trained for some steps, compared with the NumPy reference.

    python benchmarks/models_train.py                       all, result in benchmarks/results/models.json
    python benchmarks/models_train.py lstm gru --steps 5    some of them; nothing is written

All weights are trained where that fits the board; else as many of the last layers as do. Losses and outputs must be those of the reference.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from models import LOSSES, MODELS

from tinytrain.compiler import Compiled, Options, compile_model, write
from tinytrain.device.project import Project
from tinytrain.emit.golden import golden_vectors
from tinytrain.errors import DoesNotFit
from tinytrain.gradient.update import Optimiser

RESULT = Path(__file__).resolve().parent / "results" / "models.json"
BOARDS = ("mps2-an500", "riscv-virt")
LAYERS = (32, 16, 8, 4, 2, 1)                             # that are trained where not all can be
RATE = 1e-3
TOLERANCE = 1e-4                                          # of the largest loss or output


def fitting(path: Path, board: str, loss: str) -> tuple[Compiled, str]:
    """The largest of the schemes that fits, and its name."""
    refusal: DoesNotFit | None = None
    for scheme in ("full", *(f"last:{k}" for k in LAYERS)):
        try:
            return compile_model(path, Options(board, loss, scheme, Optimiser(RATE))), scheme
        except DoesNotFit as error:
            refusal = error
    assert refusal is not None
    raise refusal


def trained(name: str, board: str, steps: int) -> dict[str, Any]:
    """What came of it; `difference` is the largest of losses and of the first output, as a part of the largest of them."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{name}.onnx"
        onnx.save(MODELS[name](), path)
        compiled, scheme = fitting(path, board, LOSSES.get(name, "ce"))
        write(compiled, Path(folder) / "out")
        golden = golden_vectors(compiled.program, steps)
        project = Project.open(Path(folder) / "out")
        with project.session(icount=True, timeout=600) as session:
            output = session.infer(golden.x[0])
            made = [session.train_step(x, target) for x, target in zip(golden.x, golden.target, strict=True)]
            counters = session.counters()
            ram = session.info.ram_bytes + counters.stack_bytes
        losses = np.array([step.loss for step in made])
        apart = [np.abs(found - want.reshape(-1)).max() / max(np.abs(want).max(), 1e-6) for found, want in
                 ((output, golden.output), (losses, golden.losses))]
        return {
            "model": name, "board": board, "scheme": scheme, "instructions": max(step.instructions or 0 for step in made), "ram_bytes": ram,
            "flash_bytes": project.sizes().flash_bytes, "difference": float(max(apart)),
        }


def main() -> int:
    parser = argparse.ArgumentParser(description="Eleven networks on two boards.")
    parser.add_argument("names", nargs="*", metavar="MODEL", help=f"of {', '.join(MODELS)}")
    parser.add_argument("--board", action="append", choices=BOARDS)
    parser.add_argument("--steps", type=int, default=3)
    given = parser.parse_args()
    rows = []
    for name in given.names or MODELS:
        for board in given.board or BOARDS:
            row = trained(name, board, given.steps)
            rows.append(row)
            told = f"{row['instructions']:>13,} instructions a step  {row['ram_bytes']:>9,} B RAM  {row['flash_bytes']:>9,} B flash"
            verdict = "equal" if row["difference"] <= TOLERANCE else "DIFFERS"
            print(f"{name:<13} {board:<11} {row['scheme']:<8}{told}  {verdict} ({row['difference']:.0e})", flush=True)
    if not given.names and not given.board:
        RESULT.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    return int(any(row["difference"] > TOLERANCE for row in rows))


if __name__ == "__main__":
    sys.exit(main())
