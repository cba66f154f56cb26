# SPDX-License-Identifier: Apache-2.0
"""`tinytrain contribution`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tinytrain.cli.answer import Answer, progress
from tinytrain.cli.command import Command
from tinytrain.cli.data_options import data_options
from tinytrain.cli.model_options import model_options
from tinytrain.cli.options import MODEL, Number, compiler_options, job_options, option
from tinytrain.errors import TinytrainError

if TYPE_CHECKING:
    from tinytrain.data.file import DataFile


def _ratios(ctx: click.Context, param: click.Parameter, text: str) -> tuple[float, ...]:
    """Numbers above 0 and not above 1, separated by commas."""
    return tuple(Number(0, 1, min_open=True).convert(number, param, ctx) for number in text.split(","))


@click.command(cls=Command, epilog="Example: tinytrain contribution model.onnx --data train.npz --lr 0.02 -o contribution.json")
@MODEL
@data_options()
@option("--validation", "--val", type=click.Path(path_type=Path), only_with="--score trained", help="Samples to measure accuracy on.")
@option("--holdout", type=Number(0, 0.9), default=0.2, show_default=True, only_with="--score trained", not_with="--validation",
              help="Part of the data kept for that, another one for each seed, where no --validation is given.")
@option("--score", type=click.Choice(["trained", "fisher", "gradient", "first-order"]), default="trained", show_default=True,
              help="Train each candidate alone, or a cheap score from the gradients of some samples.")
@option("--ratios", callback=_ratios, default="0.125,0.25,0.5,1", show_default=True, help="Parts of the input channels of a weight.")
@option("--epochs", type=click.IntRange(1), default=5, show_default=True, only_with="--score trained",
        help="Epochs of each training.")
@option("--seeds", type=click.IntRange(1), default=3, show_default=True, only_with="--score trained",
        help="Trainings of each candidate.")
@option("--samples", type=click.IntRange(1), help="Use only N of the samples; without it all to train, 200 for a cheap score.")
@option("-o", "--output", type=click.Path(path_type=Path), required=True, help="JSON file to write.")
@job_options
@model_options
def contribution(
    model: Path, data: DataFile, validation: DataFile | None, output: Path, processes: int | None, cluster: str | None, cache: Path | None,
    holdout: float, score: str, ratios: tuple[float, ...], epochs: int, seeds: int, samples: int | None, **given: Any,
) -> Answer:
    """Find what training each part of MODEL alone gains on the samples of a data file.

    What is finished is kept: started again after an interruption, it goes on.
    """
    from tinytrain.atomic import check_files
    from tinytrain.cli.results import Contribution
    from tinytrain.jobs import Jobs
    from tinytrain.paths import cache_dir
    from tinytrain.search.analysis import Settings, analyse

    if given["schemes"] != ("full",):
        raise TinytrainError(f"--scheme {given['schemes'][0]}: contributions are of all layers, each alone.", hint="Leave --scheme out.")
    check_files(output)
    options = compiler_options("host", **given)
    settings = Settings(score, ratios, epochs, seeds, holdout, samples)
    with progress() as bar:
        jobs = Jobs(processes, cluster, cache or cache_dir() / "jobs")
        found = analyse(model, data, validation, options, settings, jobs, bar)
    found.save(output)
    lines = [found.text()]
    if found.refused:
        name, why = next(iter(found.refused.items()))
        lines.append(f"left out   {len(found.refused)} candidates; {name}: {why}")
    return Answer("\n".join([*lines, f"written    {output}"]), Contribution(output, found))
