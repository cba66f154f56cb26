# SPDX-License-Identifier: Apache-2.0
"""Two small models, one full training step each (forward, backward, SGD; batch 1), in instructions and bytes on an emulated Cortex-M4F.

Run it with `make bench`. Writes benchmarks/results/micro.json. Beside each figure stands that of the best published C library for
on-device training on the same model, board and compiler.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import onnx
from measuring import Record, built, count, record

from tinytrain import zoo
from tinytrain.compiler import Compiled, Options
from tinytrain.device.project import Project
from tinytrain.ir.types import Array

BOARD = "mps2-an386"
RESULTS = Path(__file__).parent / "results" / "micro.json"
COMMAND = "make bench"
LABEL = 3


@dataclass(frozen=True)
class Published:
    """Figures of the library compared with: instructions of a step, bytes of RAM in all (parameters, arena, structures, stack)."""

    instructions: int
    ram_bytes: int


PUBLISHED = {"mlp": Published(327_096, 41_128), "cnn": Published(4_694_780, 59_508)}


def prepared(workload: str, folder: Path, board: str) -> tuple[Compiled, Project, Array]:
    """A built-in model compiled for a board, and a sample."""
    model = folder / f"{workload}.onnx"
    onnx.save(zoo.model(workload), model)
    compiled, project = built(model, Options(board=board), folder / workload)
    return compiled, project, np.random.default_rng(0).random(compiled.program.entries["infer"].inputs[0].shape, np.float32)


def measure(workload: str, folder: Path) -> Record:
    """Compile, build and run training steps of a built-in model on the emulated board."""
    _, project, sample = prepared(workload, folder, BOARD)
    return record(workload, project, count(project, sample, LABEL, steps=5), COMMAND)


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        records = [measure(workload, Path(folder)) for workload in PUBLISHED]
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps([asdict(made) for made in records], indent=2) + "\n")
    print(f"{records[0].compiler}\n{records[0].flags}\n")
    for made in records:
        other = PUBLISHED[made.workload]
        fewer, less = other.instructions / made.instructions, other.ram_bytes / made.ram_bytes
        print(
            f"{made.workload:<5} {made.instructions:>9,} instructions a step, {fewer:.1f} times fewer than {other.instructions:,}, "
            f"{made.estimated_cycles:,} estimated cycles;   "
            f"{made.ram_bytes:>6,} B of RAM in all, {less:.1f} times less than {other.ram_bytes:,} "
            f"(arena {made.arena_bytes:,}, stack {made.stack_bytes:,});   {made.flash_bytes:,} B of flash"
        )
    print(f"\n{os.path.relpath(RESULTS)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
