# SPDX-License-Identifier: Apache-2.0
"""Options and arguments that several commands share, and what they say as the compiler's own types."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from tinytrain.errors import TinytrainError

if TYPE_CHECKING:
    from tinytrain.compiler import Options

Command = TypeVar("Command", bound=Callable[..., Any])


class Number(click.FloatRange):
    """A finite number in a range: click lets NaN through, as it compares false with both ends."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number


SHAPES = click.option("--shape", "shapes", multiple=True, metavar="INPUT=1,3,32,32", help="Fix a dynamic input shape.")


def model_options(command: Command) -> Command:
    """Options that say how a model is read and what is trained."""
    for option in reversed((
        click.option("--loss", type=click.Choice(["ce", "ce-soft", "mse", "bce", "none"]), show_default="ce",
                     help="Loss of training; none compiles for inference only."),
        click.option("--scheme", "schemes", default=("full",), show_default=True, multiple=True,
                     help="What is trained: full, last:K, head, bias, bias-last:K, batchnorm, none, or a scheme.toml. "
                     "`compile` takes several: the device starts with the first and can switch."),
        click.option("--lr", "learning_rate", type=Number(0), default=0.01, show_default=True, help="Learning rate to start with."),
        click.option("--optimiser", type=click.Choice(["sgd", "adam"]), default="sgd", show_default=True),
        click.option("--momentum", type=Number(0, 1, max_open=True), default=0.0, show_default=True),
        click.option("--momentum-type", type=click.Choice(["fp32", "int8"]), default="fp32", show_default=True,
                     help="How momentum is kept: int8 takes a quarter of the memory."),
        click.option("--nesterov", is_flag=True, help="Nesterov momentum."),
        click.option("--weight-decay", type=Number(0), default=0.0, show_default=True),
        click.option("--accumulate", type=click.IntRange(1), default=1, show_default=True, help="Samples whose gradients make one update."),
        click.option("--rounding", type=click.Choice(["stochastic", "nearest", "residual", "truncate"]), default="stochastic",
                     show_default=True, help="How int8 weights are updated; residual keeps 8 more bits of each."),
        click.option("--master", type=click.Choice(["fp32"]), help="Train fp32 weights behind the int8 ones, at four more bytes each."),
        click.option("--bias-factor", type=Number(0), default=1.0, show_default=True,
                     help="Multiplies the learning rate of biases, gamma and beta."),
        click.option("--int8-input", is_flag=True, help="The device takes samples as int8, in the scale of an int8 model's input."),
        click.option("--grad", type=click.Choice(["fp32", "fp16", "int8"]), default="fp32", show_default=True,
                     help="How gradients of activations are stored; int8 trains an int8 model without any floating point."),
        click.option("--qas/--no-qas", default=True, help="Quantisation-aware scaling of int8 gradients."),
        click.option("--optimise", "--optimize", type=click.Choice(["speed", "balanced", "size"]), default="balanced", show_default=True,
                     help="What kernels compete by, where `tinytrain tune` has counted them; balanced: speed, for a tenth of flash."),
        click.option("--tuned", type=click.Path(path_type=Path), help="Table of `tinytrain tune`; that in ~/.cache/tinytrain without it."),
        SHAPES,
        click.option("--new-head", type=click.IntRange(1), metavar="N", help="Replace the classifier by a new one with N classes."),
        click.option("--head-seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of its weights."),
        click.option("--keep-batchnorm", is_flag=True, help="Do not fold batch norms into weights: gamma and beta can be trained."),
        click.option("--dropout", is_flag=True, help="Keep Dropout while training, with a seeded mask."),
        click.option("--bptt", "truncate", type=click.IntRange(0), default=0, metavar="K",
                     help="Cut the gradients of recurrent layers at every K-th step of time; 0, the default, nowhere."),
    )):
        command = option(command)
    return command


def parse_shapes(texts: Sequence[str]) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    for text in texts:
        name, _, sizes = text.rpartition("=")
        if not name or not all(re.fullmatch(r"\s*[0-9]{1,9}\s*", s) for s in sizes.split(",")):
            raise TinytrainError(f"--shape {text}: expected INPUT=1,3,32,32.")
        shapes[name] = tuple(int(s) for s in sizes.split(","))
    return shapes


def compiler_options(board: str, *, several: bool = False, **given: Any) -> Options:
    from tinytrain.compiler import Options
    from tinytrain.frontend.new_head import NewHead
    from tinytrain.gradient.update import Optimiser

    first, *further = given["schemes"]
    if further and not several:
        raise TinytrainError(f"--scheme is given {1 + len(further)} times; expected one.", hint="Only `tinytrain compile` takes several.")
    if given["nesterov"] and not given["momentum"]:
        raise TinytrainError("--nesterov has no effect with momentum 0; expected --momentum above 0.", hint="Try --momentum 0.9.")
    if given["momentum_type"] == "int8" and not given["momentum"]:
        raise TinytrainError("--momentum-type int8 has no effect with momentum 0; expected --momentum above 0.", hint="Try --momentum 0.9.")
    if given["optimiser"] == "adam" and given["momentum"]:
        raise TinytrainError("--momentum is that of SGD; expected none with --optimiser adam, which has its own.", hint="Leave it out.")
    if given["master"] and given["rounding"] != "stochastic":
        message = f"--rounding {given['rounding']} and --master fp32, which keeps what rounding leaves out, are both given; expected one."
        raise TinytrainError(message, hint="Leave one of them out.")
    optimiser = Optimiser(
        given["learning_rate"], given["momentum"], given["nesterov"], given["weight_decay"], given["accumulate"],
        adam=given["optimiser"] == "adam", rounding="master" if given["master"] else given["rounding"], bias_factor=given["bias_factor"],
        int8_momentum=given["momentum_type"] == "int8",
    )
    return Options(
        board=board, loss=None if given["loss"] == "none" else given["loss"] or "ce", loss_by_default=given["loss"] is None,
        scheme=first, optimiser=optimiser,
        fold_batchnorm=not given["keep_batchnorm"], dropout=given["dropout"], truncate=given["truncate"],
        shapes=parse_shapes(given["shapes"]), qas=given["qas"], int8_input=given["int8_input"], grad=given["grad"],
        further_schemes=tuple(further), optimise=given["optimise"], tuned=given["tuned"],
        new_head=NewHead(given["new_head"], given["head_seed"]) if given["new_head"] else None,
    )


MODEL = click.argument("model", type=click.Path(path_type=Path))
PROJECT = click.argument("project", type=click.Path(path_type=Path))
TIMEOUT = click.option("--timeout", type=Number(0, min_open=True), default=60.0, show_default=True,
                       help="Seconds to wait for one answer of the device.")
TRUST = click.option("--trust", is_flag=True, help="Run the C of PROJECT as it is, though others made it or it was changed.")
BOARD = click.option("--board", default="host", show_default=True, help="A board by name; see `tinytrain boards`.")


def job_options(command: Command) -> Command:
    """Options that say where jobs run; they are the fields of `tinytrain.jobs.Jobs`."""
    for option in reversed((
        click.option("--jobs", "processes", type=click.IntRange(1), help="Processes on this machine; one a core without it."),
        click.option("--cluster", metavar="tcp://HOST:PORT", help="Run on the dask cluster with this scheduler."),
        click.option("--cache", type=click.Path(path_type=Path), help="Folder for finished results; ~/.cache/tinytrain/jobs without it."),
    )):
        command = option(command)
    return command
