# SPDX-License-Identifier: Apache-2.0
"""`tinytrain tune`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from tinytrain.cli.answer import Answer, progress
from tinytrain.cli.command import Command
from tinytrain.cli.model_options import cost_options
from tinytrain.cli.options import BOARD, MODEL, compiler_options, option


@click.command(cls=Command, epilog="Example: tinytrain tune model.onnx --board netduinoplus2 --scheme last:2")
@MODEL
@BOARD
@option("--cost", type=click.Choice(["cycles", "instructions"]), default="cycles", show_default=True,
              help="What kernels compete by; cycles are estimated.")
@option("--jobs", "processes", type=click.IntRange(1), help="Processes on this machine; one a core without it.")
@option("--again", is_flag=True, help="Count everything again.")
@cost_options
def tune(model: Path, board: str, cost: str, processes: int | None, again: bool, **given: Any) -> Answer:
    """Run every way to make the kernels of MODEL on the emulated board, and remember what each takes: `compile` then takes the best.

    What is counted already is not run again: an interrupted run goes on. The counts go to --tuned.
    """
    from tinytrain.cli.results import Said
    from tinytrain.compiler import understand
    from tinytrain.jobs import Jobs
    from tinytrain.target.board import load_board
    from tinytrain.tune.tune import tune_program

    options = compiler_options(board, several=True, **given)
    with progress() as bar:
        program = understand(model, options).program
        result = tune_program(program, load_board(board), Jobs(processes), bar, cost=cost, path=options.tuned, again=again)
    return Answer(result, Said(tuple(result.splitlines())))
