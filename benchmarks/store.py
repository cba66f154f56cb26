# SPDX-License-Identifier: Apache-2.0
"""Bytes of code that keeping what was learned takes on a Cortex-M4: guards, the store, and its four calls, without a driver of a flash.

Run it with `make bench-store`. Writes benchmarks/results/store.json. A firmware that only trains is linked without them, and with them; the
tables of its tensors and the hash of its model are in either, as the link needs them, too.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import onnx
from guards import MODELS
from instructions import FILL, STANDS_READY

from tinytrain.atomic import write_text
from tinytrain.compiler import Options, compile_model, write
from tinytrain.ir.graph import Guards
from tinytrain.target.board import load_board
from tinytrain.target.build import build
from tinytrain.target.size import sizes

BOARD = "mps2-an386"
RESULTS = Path(__file__).parent / "results" / "store.json"
COMMAND = "make bench-store"
MOST_BYTES = 2_560

_MAIN = STANDS_READY + """extern const tt_flash *volatile flash;
const tt_flash *volatile flash;

int main(void)
{{
    float loss = 0.0f;
    uint32_t state = 1;
    tt_port_start();
    {name}_init(&ctx, arena, sizeof arena);
    {fill}
    (void){name}_train_step(&ctx, (const void *)sample, (const void *)target, &loss);
    {calls}
    return {name}_params()->bytes + {name}_model_hash[0] != 0;
}}
"""
_CALLS = """(void){name}_save(&ctx, flash, TT_STORE_OPTIMISER);
    (void){name}_autosave(&ctx, flash, 0, 10);
    (void){name}_load(&ctx, flash);
    (void){name}_factory_reset(&ctx, flash);"""


@dataclass(frozen=True)
class Row:
    """Bytes of flash that each takes, and both together."""

    model: str
    board: str
    guards_bytes: int
    store_bytes: int
    bytes: int
    command: str


def linked(name: str, guards: Guards, calls: str, folder: Path) -> int:
    """Bytes of flash of a firmware that makes a training step, and these calls."""
    onnx.save(MODELS[name](), folder / "model.onnx")
    compiled = compile_model(folder / "model.onnx", Options(board=BOARD, exact_seconds=0, guards=guards))
    project = folder / f"{guards}{bool(calls)}"
    write(compiled, project)
    called, kind = compiled.program.name, compiled.program.entries["infer"].inputs[0].type.dtype.tag
    main = _MAIN.format(name=called, NAME=called.upper(), fill=FILL[kind], calls=calls.format(name=called))
    (project / "app" / "main.c").write_text(main)
    return sizes(build(project, load_board(BOARD))).flash_bytes


def measure(name: str) -> Row:
    """One model, with the guards that are the default."""
    with tempfile.TemporaryDirectory() as folder:
        bare = linked(name, "none", "", Path(folder))
        guarded, both = (linked(name, "rest", calls, Path(folder)) for calls in ("", _CALLS))
    return Row(name, BOARD, guarded - bare, both - guarded, both - bare, COMMAND)


def main() -> int:
    rows = [measure(name) for name in sys.argv[1:] or MODELS]
    write_text(RESULTS, json.dumps([asdict(row) for row in rows], indent=2) + "\n")
    for row in rows:
        parts = f"guards {row.guards_bytes:,} B, store {row.store_bytes:,} B, together {row.bytes:,} B"
        print(f"{row.model:<8} {row.board}: {parts}: {'ok,' if row.bytes <= MOST_BYTES else 'ABOVE'} {MOST_BYTES:,}")
    print(f"\n{os.path.relpath(RESULTS)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
