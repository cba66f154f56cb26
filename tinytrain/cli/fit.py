# SPDX-License-Identifier: Apache-2.0
"""`tinytrain fit`: which board, which scheme."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from tinytrain.cli.answer import Answer, progress
from tinytrain.cli.command import Command
from tinytrain.cli.data_options import data_options
from tinytrain.cli.model_options import FILLED, cost_options
from tinytrain.cli.option import asked
from tinytrain.cli.options import MODEL, compiler_options, option
from tinytrain.errors import TinytrainError

if TYPE_CHECKING:
    from tinytrain.data.file import DataFile


@click.command(cls=Command, epilog="Example: tinytrain fit model.onnx --data data.npz")
@MODEL
@option("--board", "boards", multiple=True,
        help="Only this board, with all schemes; may be given again. The kits that can be bought without it.")
@option("--all", "every", is_flag=True, not_with="--board",
        help="All schemes on all boards, emulated ones too, not the largest that fits alone.")
@data_options("Samples to calibrate int8 on", required=False)
@cost_options
@FILLED
def fit(model: Path, boards: tuple[str, ...], every: bool, data: DataFile | None, budget: int | None, **given: Any) -> Answer:
    """Say which scheme of MODEL trains on which board: RAM, flash, instructions and milliseconds of a step, cheapest board first.

    Without --scheme and --dtype all are tried: full, last:K, bias and batchnorm, in fp32, fp16 and int8. Nothing is compiled.
    """
    from tinytrain.answers.candidates import DTYPES, real_boards
    from tinytrain.answers.fit import Request, fit_text
    from tinytrain.answers.fit import fit as answer
    from tinytrain.cli.results import Fit
    from tinytrain.target.board import board_names, load_board

    ctx = click.get_current_context()
    chosen = {name: ctx.get_parameter_source(name) is not ParameterSource.DEFAULT for name in ("schemes", "dtype")}
    schemes, dtype = given["schemes"], given["dtype"]
    if chosen["dtype"] and asked(ctx, "data"):
        message = f"--data has no effect with --dtype {dtype}: samples are for int8, which is tried without --dtype."
        raise TinytrainError(message, hint="Leave one of them out.")
    options = compiler_options("host", **{**given, "schemes": schemes[:1]})
    if options.loss is None:
        raise TinytrainError("--loss none: a model that only infers has no scheme to fit.", hint="Give --loss ce, mse or bce.")
    on = tuple(map(load_board, boards or (board_names() if every else ()))) or tuple(real_boards())
    every = every or bool(boards) or chosen["schemes"]
    request = Request(on, schemes if chosen["schemes"] else None, (dtype,) if chosen["dtype"] else DTYPES, every, data, budget)
    with progress() as bar:
        found = answer(model, options, request, bar)
    plain = found.plain()
    return Answer(fit_text(found), Fit(plain["model"], tuple(plain["rows"]), tuple(plain["notes"])), asked=True)
