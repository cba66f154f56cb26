# SPDX-License-Identifier: Apache-2.0
"""`tinytrain lr`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tinytrain.cli.answer import Answer, progress
from tinytrain.cli.command import Command
from tinytrain.cli.data_options import data_options
from tinytrain.cli.model_options import METHOD, RATES, filled_by, gradient_options, reading_options, unscheduled_options
from tinytrain.cli.options import BOARD, MODEL, Number, choices, option

if TYPE_CHECKING:
    from tinytrain.data.file import DataFile


@click.command(cls=Command, epilog="Example: tinytrain lr model.onnx --data train.npz --optimiser adam")
@MODEL
@data_options()
@BOARD
@option("--from", "low", type=Number(1e-9, 1e3), default=1e-4, show_default=True, help="The smallest rate to try.")
@option("--to", "high", type=Number(1e-9, 1e3), default=1.0, show_default=True, help="The largest.")
@option("--steps", type=click.IntRange(1), default=500, show_default=True, help="Samples of each training.")
@option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of the samples that are held back, and of the order.")
@option("--plot", type=click.Path(path_type=Path), help="PNG file for the curve.")
@reading_options
@gradient_options
@METHOD
@filled_by("--scheme last:auto|spread:auto or --method lowrank:auto")
@RATES
@unscheduled_options
def lr(
    model: Path, data: DataFile, board: str, low: float, high: float, steps: int, seed: int, plot: Path | None, budget: int | None,
    schemes: Sequence[str], **given: Any,
) -> Answer:
    """Find a learning rate for MODEL and the samples of a data file: short trainings at each of several rates, on this computer.

    Each begins with the weights of MODEL, in three orders of the samples, and is measured by samples held back. The smallest rate that is
    nearly as good as the best one is suggested.
    """
    from tinytrain.api.model import Model
    from tinytrain.atomic import check_files, write_bytes
    from tinytrain.cli.options import one_scheme
    from tinytrain.cli.results import LearningRate
    from tinytrain.learn.curve import curve_png, curve_text
    from tinytrain.learn.find_rate import RateSearch
    from tinytrain.report.plot import figure

    check_files(plot)
    if plot is not None:
        figure()                                          # whatever it lacks is said before that work
    with progress() as bar:
        curve = Model(model).find_rate(
            data, board=board, scheme=one_scheme(schemes), budget=budget, search=RateSearch(low, high, steps, seed), progress=bar,
            **choices(given),
        )
    lines = [curve_text(curve)]
    if plot is not None:
        write_bytes(plot, curve_png(curve))
        lines.append(f"plot       {plot}")
    return Answer("\n".join(lines), LearningRate(curve.suggestion, curve.before, curve.start, curve.steps, curve.trials, plot), asked=True)
