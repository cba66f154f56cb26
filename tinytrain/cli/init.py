# SPDX-License-Identifier: Apache-2.0
"""`tinytrain init`: a project file, so that later commands need no options."""

from __future__ import annotations

from pathlib import Path

import click

from tinytrain.cli.answer import Answer
from tinytrain.cli.command import Command
from tinytrain.cli.options import BOARD, BYTES, MODEL, option
from tinytrain.cli.project_file import FILE, file_text
from tinytrain.errors import DataError, OutputError


@click.command(
    cls=Command, reads_project=False,
    epilog="Example: tinytrain init model.onnx --board netduinoplus2 --data train.npz --scheme last:2",
)
@MODEL
@BOARD
@option("--data", type=click.Path(path_type=Path), help="Samples to train with.")
@option("--scheme", help="What is trained: full, last:K, head, bias, bias-last:K, batchnorm, smallest:PERCENT, none, a scheme.toml, or "
        "last:auto or spread:auto, which fill the budget.")
@option("--budget", type=BYTES, help="RAM that it may take, as 100K; `search` finds the best scheme in it.")
@option("-o", "--output", type=click.Path(path_type=Path), default=Path("out"), show_default=True, help="Folder for the compiled project.")
@option("--force", is_flag=True, help="Replace a project file.")
def init(model: Path, board: str, data: Path | None, scheme: str | None, budget: int | None, output: Path, force: bool) -> Answer:
    """Write tinytrain.toml here: model, board, data, scheme and budget of the commands that follow, which then need no options."""
    from tinytrain.atomic import write_text
    from tinytrain.cli.results import Written
    from tinytrain.compiler import Options, scheme_of
    from tinytrain.frontend.prepare import read_model
    from tinytrain.search.fill import filled
    from tinytrain.target.board import load_board

    if FILE.exists() and not force:
        raise OutputError(f"{FILE} exists already; nothing was written.", hint="Edit it, or give --force to replace it.")
    load_board(board)
    if scheme is None:
        read_model(model)
    else:
        scheme_of(model, filled(model, Options(board=board, scheme=scheme), budget))
    if data is not None and not data.exists():
        raise DataError(f"{data} does not exist; expected npz, npy, csv, or a folder of images.", hint="Check the path.")
    given = {"model": model, "board": board, "data": data, "scheme": scheme, "budget": budget, "output": output}
    write_text(FILE, file_text({key: str(value) for key, value in given.items() if value is not None}))
    found = "" if budget is None or scheme else f"\nfirst      tinytrain search -o scheme.toml; then say scheme = \"scheme.toml\" in {FILE}"
    return Answer(f"written    {FILE}{found}\nnext       tinytrain compile, then tinytrain train", Written(FILE))
