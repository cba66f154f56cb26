# SPDX-License-Identifier: Apache-2.0
"""How long the pieces of a training step are (`NAME_train_continue` with a budget of 1): counted one by one on an emulated board.

Run it with `make bench-pieces`; words name boards, in place of two of them.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import onnx
from guards import BOARDS, MODELS
from instructions import FILL, STANDS_READY, counts

from tinytrain.compiler import Options, compile_model, write
from tinytrain.errors import DoesNotFit
from tinytrain.target.board import load_board
from tinytrain.target.build import build

_MAIN = STANDS_READY + """int main(void)
{{
    float loss = 0.0f;
    uint32_t state = 1;
    tt_status status;
    tt_port_start();
    {name}_init(&ctx, arena, sizeof arena);
    {fill}
    tt_port_count_start();
    status = {name}_train_begin(&ctx, (const void *)sample, (const void *)target);
    (void)tt_port_count_stop();
    counted();
    do {{
        tt_port_count_start();
        status = {name}_train_continue(&ctx, 1, &loss);
        (void)tt_port_count_stop();
        counted();
    }} while (status == TT_MORE);
    return 0;
}}
"""


def pieces(name: str, board: str, folder: Path) -> list[tuple[str, int]]:
    """(layer, instructions) of the beginning and of each piece, in order."""
    onnx.save(MODELS[name](), folder / "model.onnx")
    compiled = compile_model(folder / "model.onnx", Options(board=board, exact_seconds=0))
    write(compiled, folder / "project")
    called, kind = compiled.program.name, compiled.program.entries["infer"].inputs[0].type.dtype.tag
    (folder / "project" / "app" / "main.c").write_text(_MAIN.format(name=called, NAME=called.upper(), fill=FILL[kind]))
    origins = ["begin", *(node.origin for node in compiled.plan.entries["train"].graph.nodes if not node.op.view)]
    found = counts(build(folder / "project", load_board(board)), load_board(board), len(origins))
    return [(origin, instructions) for origin, (instructions, _) in zip(origins, found, strict=True)]


def main() -> int:
    for board in sys.argv[1:] or BOARDS:
        for name in MODELS:
            try:
                with tempfile.TemporaryDirectory() as folder:
                    found = pieces(name, board, Path(folder))
            except DoesNotFit as error:
                print(f"{board:<11} {name:<8} {error.sentences[0]}")
                continue
            origin, longest = max(found, key=lambda one: one[1])
            total = sum(instructions for _, instructions in found)
            print(f"{board:<11} {name:<8} {len(found) - 1:>3} pieces, {total:>11,} instructions; the longest is {longest:,} ({origin})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
