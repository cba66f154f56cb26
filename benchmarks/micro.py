# SPDX-License-Identifier: Apache-2.0
"""Two small models, one full training step each (forward, backward, SGD; batch 1), in instructions and bytes on an emulated Cortex-M4F.

Run it with `make bench`. Writes benchmarks/results/micro.json. Beside each figure stands that of the best published C library for
on-device training on the same model, board and compiler.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import onnx

from tinytrain import zoo
from tinytrain.compiler import Options, compile_model, write
from tinytrain.device.project import Project

BOARD = "mps2-an386"
RESULTS = Path(__file__).parent / "results" / "micro.json"
COMMAND = "make bench"


@dataclass(frozen=True)
class Published:
    """Figures of the library compared with: instructions of a step, bytes of RAM in all (parameters, arena, structures, stack)."""

    instructions: int
    ram_bytes: int


PUBLISHED = {"mlp": Published(327_096, 41_128), "cnn": Published(4_694_780, 59_508)}


@dataclass(frozen=True)
class Record:
    """One measurement. RAM is arena (the sample lies there too), context, target, and the deepest stack use."""

    workload: str
    board: str
    compiler: str
    flags: str
    instructions: int
    ram_bytes: int
    arena_bytes: int
    stack_bytes: int
    flash_bytes: int
    command: str


def measure(workload: str, folder: Path) -> Record:
    """Compile, build and run one training step of a built-in model on the emulated board."""
    model = folder / f"{workload}.onnx"
    onnx.save(zoo.model(workload), model)
    compiled = compile_model(model, Options(board=BOARD))
    write(compiled, folder / workload)
    project = Project.open(folder / workload)
    rng = np.random.default_rng(0)
    sample = rng.random(compiled.program.entries["infer"].inputs[0].shape, np.float32)
    with project.session(icount=True) as session:
        steps = [session.train_step(sample, np.int32(3)).instructions for _ in range(5)]
        counters = session.counters()
        ram = session.info.ram_bytes + counters.stack_bytes
    toolchain = project.board.toolchain
    version = subprocess.run([toolchain.cc[0], "--version"], capture_output=True, text=True, check=True, timeout=60).stdout
    return Record(
        workload, BOARD, version.splitlines()[0], " ".join((*toolchain.flags, *project.board.flags)), max(step or 0 for step in steps), ram,
        counters.arena_bytes, counters.stack_bytes, project.sizes().flash_bytes, COMMAND,
    )


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        records = [measure(workload, Path(folder)) for workload in PUBLISHED]
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps([asdict(record) for record in records], indent=2) + "\n")
    print(f"{records[0].compiler}\n{records[0].flags}\n")
    for record in records:
        other = PUBLISHED[record.workload]
        fewer, less = other.instructions / record.instructions, other.ram_bytes / record.ram_bytes
        print(
            f"{record.workload:<5} {record.instructions:>9,} instructions a step, {fewer:.1f} times fewer than {other.instructions:,};   "
            f"{record.ram_bytes:>6,} B of RAM in all, {less:.1f} times less than {other.ram_bytes:,} "
            f"(arena {record.arena_bytes:,}, stack {record.stack_bytes:,});   {record.flash_bytes:,} B of flash"
        )
    print(f"\n{os.path.relpath(RESULTS)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
