# SPDX-License-Identifier: Apache-2.0
"""`tinytrain scheme write|show` and `tinytrain search`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from tinytrain.cli.answer import Answer, progress, say
from tinytrain.cli.command import Command
from tinytrain.cli.data_options import Numbers, data_options
from tinytrain.cli.model_options import FILLED, LOSS, RATES, SCHEME, cost_options, model_options, reading_options
from tinytrain.cli.option import asked
from tinytrain.cli.options import BOARD, BYTES, COUNT, MODEL, Number, compiler_options, job_options, option
from tinytrain.errors import DoesNotFit, TinytrainError


class Budgets(click.ParamType):  # type: ignore[type-arg]
    """60K,100K,150K or, in equal steps, 60K:150K:30K (the last one is the step)."""

    name = "60K,100K,150K or 60K:150K:30K"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        text = str(value)
        if ":" not in text:
            return tuple(BYTES.convert(part, param, ctx) for part in text.split(","))
        if len(parts := text.split(":")) != 3:
            self.fail(f"{value} is not a range like 60K:150K:30K.", param, ctx)
        first, last, step = (BYTES.convert(part, param, ctx) for part in parts)
        return tuple(range(first, last + 1, step)) or self.fail(f"{value} is an empty range.", param, ctx)


class _Write(click.Group):
    """`tinytrain scheme MODEL …` is short for `tinytrain scheme write MODEL …`."""

    command_class = Command

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        named = args and (args[0] in self.commands or args[0] in ctx.help_option_names)
        return super().parse_args(ctx, args if named or not args else ["write", *args])


@click.group(cls=_Write)
def scheme() -> None:
    """Write an update scheme as TOML, or show what it costs. Without `write` or `show` it is written."""


@scheme.command(epilog="Example: tinytrain scheme write model.onnx --last 2 -o scheme.toml")
@MODEL
@reading_options
@LOSS
@SCHEME
@RATES
@option("--last", type=click.IntRange(1), not_with="--scheme", help="Short for --scheme last:K.")
@option("-o", "--output", type=click.Path(path_type=Path), help="File to write; standard output without it.")
def write(model: Path, last: int | None, output: Path | None, **given: Any) -> Answer:
    """Write the update scheme of MODEL as TOML, to be edited and given to --scheme."""
    from tinytrain.atomic import write_text
    from tinytrain.cli.results import SchemeWrite
    from tinytrain.compiler import scheme_of
    from tinytrain.report.text import frozen_text

    given["schemes"] = (f"last:{last}",) if last else given["schemes"]
    scheme, frozen = scheme_of(model, compiler_options("host", **given))
    text = scheme.to_toml() + (f"\n# {said}\n" if (said := frozen_text(frozen)) else "")
    if output is not None:
        write_text(output, text)
    return Answer(f"scheme     {output}" if output else text.rstrip("\n"), SchemeWrite(text, output), asked=output is None)


@scheme.command(epilog="Example: tinytrain scheme show model.onnx --scheme scheme.toml --board netduinoplus2")
@MODEL
@BOARD
@cost_options
@FILLED
@option("-o", "--output", type=click.Path(path_type=Path), help="Also write the scheme to this file.")
def show(model: Path, board: str, budget: int | None, output: Path | None, **given: Any) -> Answer:
    """Show what training MODEL by a scheme costs, layer by layer: memory, work, flash."""
    from tinytrain.answers.nearest import check_room
    from tinytrain.atomic import write_text
    from tinytrain.cli.results import SchemeShow
    from tinytrain.report.text import frozen_text, room_text
    from tinytrain.search.cost import Costs
    from tinytrain.search.fill import resolved
    from tinytrain.search.show import cost_text

    options = compiler_options(board, **given)
    if options.loss is None:
        raise TinytrainError("--loss none: a model that only infers has no scheme to show.", hint="Give --loss ce, mse or bce.")
    costs = Costs(model, options, options.exact_seconds)
    chosen = resolved(costs, options.scheme, budget)
    cost = costs.cost(chosen)
    said = frozen_text(costs.frozen)
    text = "\n".join([cost_text(costs.forward.name, costs.board, cost), *([said] if said else [])])
    try:
        with progress() as bar:
            check_room(costs.forward.name, cost.room, model, options, bar)
    except DoesNotFit:
        say(text)
        raise
    if output is not None:
        write_text(output, chosen.to_toml())
    result = SchemeShow(costs.forward.name, costs.board.name, cost, tuple(costs.frozen))
    written = "" if output is None else f"\nwritten    {output}"
    return Answer(f"{text}\n{room_text(cost.room)}{written}", result, asked=True)


@click.command(cls=Command, epilog="Example: tinytrain search model.onnx --data train.npz --board netduinoplus2 --sram 100K -o scheme.toml")
@MODEL
@BOARD
@data_options("Samples to analyse contributions on, and to measure what was found", required=False)
@option("--contribution", type=click.Path(path_type=Path), help="Analysis by `tinytrain contribution`; made from --data without it.")
@option("--sram", type=BYTES, help="Budget of RAM, as 150K: arena, target and reserved stack.")
@option("--flash", type=BYTES, help="Budget of flash, as 1M.")
@option("--step-instructions", type=COUNT, help="Budget of instructions of a training step, as 60M.")
@option("--sweep", type=Budgets(), help="Search for each of these budgets of RAM.")
@option("--method", type=click.Choice(["exact", "evolution", "random", "halving"]), default="exact", show_default=True,
        help="exact proves how far the sum of contributions is from the best; evolution and random do not. halving trains whole schemes "
        "on --data: all once, the better half again, and so on.")
@option("--trials", type=click.IntRange(2), default=16, show_default=True, only_with="--method halving",
        help="Schemes that it tries beside the presets that fill the budget.")
@option("--lr-factors", type=Numbers(), default="0.3,1,3", show_default=True, only_with="--method halving",
        help="What it multiplies --lr by, each for every scheme: less to train bears a higher rate. The best is written with the scheme.")
@option("--evaluations", type=click.IntRange(1), default=300, show_default=True, help="Plans that evolution or chance may make.")
@option("--seconds", type=Number(0, min_open=True), default=120.0, show_default=True, only_with="--method exact",
        help="Limit of the exact search, for a budget.")
@option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of evolution and chance.")
@option("--measure", is_flag=True, help="Train what was found on --data, and say the accuracy.")
@option("--epochs", type=click.IntRange(1), default=5, show_default=True, help="Of each training of --measure and of the analysis.")
@option("--seeds", type=click.IntRange(1), default=3, show_default=True, help="Trainings of each; with --method halving at most.")
@option("--plot", type=click.Path(path_type=Path), help="PNG file for a sweep's plot.")
@option("--report", type=click.Path(path_type=Path), only_with="--sweep", help="Write its schemes as JSON, for `tinytrain page --sweep`.")
@option("-o", "--output", type=click.Path(path_type=Path), help="Scheme file to write; of a sweep that of the last budget.")
@job_options
@model_options
def search(model: Path, board: str, output: Path | None, **given: Any) -> Answer:
    """Find the scheme of MODEL with the largest sum of contributions under a budget, or that learns best in it.

    RAM is what the planner says, instructions are estimated from counts. With --sweep, finds one scheme for each budget of RAM.
    """
    from tinytrain.atomic import check_files
    from tinytrain.cli.results import FoundScheme, Search
    from tinytrain.search.sweep import Request, run

    keys = (
        "data", "contribution", "sram", "flash", "step_instructions", "sweep", "method", "trials", "lr_factors", "evaluations", "seconds",
        "seed", "measure", "epochs", "seeds", "plot", "report", "processes", "cluster", "cache",
    )
    wanted = {key: given.pop(key) for key in keys}
    if wanted["sweep"] and not asked(click.get_current_context(), "sram"):
        wanted["sram"] = None                             # the project's budget is for a single search
    if given["schemes"] != ("full",):
        raise TinytrainError(f"--scheme {given['schemes'][0]}: a search finds the scheme itself.", hint="Leave --scheme out.")
    check_files(output, wanted["plot"], wanted["report"])
    request = Request(output=output, **wanted)
    with progress() as bar:
        found = run(model, compiler_options(board, **given), request, bar)
    schemes = tuple(
        None if one is None
        else FoundScheme(
            budget.ram_bytes, one.scheme.to_toml(), one.found.gain, one.found.gap, one.cost, accuracy, one.why, one.gained, others,
        )
        for one, budget, accuracy, others in zip(found.chosen, request.budgets, found.accuracies, found.presets, strict=True)
    )
    return Answer(found.text(request), Search(schemes, found.files))
