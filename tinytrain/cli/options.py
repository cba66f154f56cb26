# SPDX-License-Identifier: Apache-2.0
"""Options and arguments that several commands share, and what they say as the compiler's own types."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from tinytrain.errors import TinytrainError

if TYPE_CHECKING:
    from tinytrain.api.choices import Choices
    from tinytrain.compiler import Options

Command = TypeVar("Command", bound=Callable[..., Any])


class Number(click.FloatRange):
    """A finite number in a range: click lets NaN through, as it compares false with both ends."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number


class Losses(click.Choice[str]):
    """One for all outputs, or `NAME=LOSS` and more: which names there are only the model says."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return value if "=" in str(value) else super().convert(value, param, ctx)


MOST_UPDATES = 2**30
SHAPES = click.option("--shape", "shapes", multiple=True, metavar="INPUT=1,3,32,32", help="Fix a dynamic input shape.")
SCHEDULE = (
    click.option("--schedule", type=click.Choice(["constant", "step", "cosine"]), default="constant", show_default=True,
                 help="Course of the learning rate, from --lr on."),
    click.option("--warmup", type=click.IntRange(0, MOST_UPDATES), default=0, show_default=True, help="Updates until it is that."),
    click.option("--schedule-steps", type=click.IntRange(1, MOST_UPDATES),
                 help="Updates from one fall to the next, or to the end of the cosine."),
    click.option("--schedule-factor", type=Number(1e-6, 1), show_default="0.1", help="What a step multiplies the learning rate by."),
    click.option("--lr-min", type=Number(0), show_default="0", help="Where the learning rate stops falling."),
)


def schedule_options(command: Command) -> Command:
    """Options that say how the learning rate changes."""
    for option in reversed(SCHEDULE):
        command = option(command)
    return command


def model_options(command: Command) -> Command:
    """Options that say how a model is read and what is trained."""
    for option in reversed((
        click.option("--loss", type=Losses(["ce", "ce-soft", "focal", "mse", "bce", "huber", "l1", "none"]), show_default="ce",
                     help="Loss of training; none compiles for inference only. With several outputs one for each that is trained for, and "
                     "its weight: label=ce,box=mse:0.5."),
        click.option("--label-smoothing", type=Number(0, 1, max_open=True), help="Part of a label that goes to all classes, of ce."),
        click.option("--class-weights", metavar="W0,W1,...", help="What a sample of each class counts, of ce and focal."),
        click.option("--temperature", type=Number(0.01, 100), help="Of ce-soft with what a teacher says: softens the scores."),
        click.option("--focal-gamma", type=Number(0, 100, min_open=True), show_default="2", help="How little focal minds what is known."),
        click.option("--huber-delta", type=Number(1e-6, 1e6), show_default="1", help="Error from which on huber is linear."),
        click.option("--scheme", "schemes", default=("full",), show_default=True, multiple=True,
                     help="What is trained: full, last:K, head, bias, bias-last:K, batchnorm, none, or a scheme.toml. "
                     "`compile` takes several: the device starts with the first and can switch."),
        click.option("--lr", type=Number(0), default=0.01, show_default=True, help="Learning rate to start with."),
        click.option("--rate", "rates", multiple=True, metavar="LAYER=FACTOR", help="Multiply the learning rate of a layer."),
        *SCHEDULE,
        click.option("--optimiser", type=click.Choice(["sgd", "adam", "adamw", "adagrad", "rmsprop"]), default="sgd", show_default=True),
        click.option("--momentum", type=Number(0, 1, max_open=True), default=0.0, show_default=True),
        click.option("--momentum-type", type=click.Choice(["fp32", "int8"]), default="fp32", show_default=True,
                     help="How momentum is kept: int8 takes a quarter of the memory."),
        click.option("--nesterov", is_flag=True, help="Nesterov momentum."),
        click.option("--weight-decay", type=Number(0), default=0.0, show_default=True,
                     help="Part of each weight that is added to its gradient; with adamw it is taken off beside the rest."),
        click.option("--clip-value", type=Number(1e-6, 1e6), help="Bound of each element of a gradient."),
        click.option("--clip-norm", type=Number(1e-6, 1e6), help="Bound of the norm of all gradients, which are then kept in RAM."),
        click.option("--accumulate", type=click.IntRange(1), default=1, show_default=True, help="Samples whose gradients make one update."),
        click.option("--rounding", type=click.Choice(["stochastic", "nearest", "residual", "truncate"]), default="stochastic",
                     show_default=True, help="How int8 weights are updated; residual keeps 8 more bits of each."),
        click.option("--dtype", type=click.Choice(["fp32", "fp16"]), default="fp32", show_default=True,
                     help="How weights, activations and gradients are stored where they are floats; sums are fp32."),
        click.option("--master", type=click.Choice(["fp32", "none"]),
                     help="Train fp32 weights behind what is stored, at four more bytes each for int8, two for fp16 (the default there)."),
        click.option("--fp32", multiple=True, metavar="LAYER",
                     help="With --dtype fp16: what this layer, or all of a pattern as 'head.*', reads and writes stays fp32."),
        click.option("--precision", type=click.Path(path_type=Path), metavar="FILE",
                     help="With --dtype fp16: a TOML file that says which layers stay fp32."),
        click.option("--bias-factor", type=Number(0), default=1.0, show_default=True,
                     help="Multiplies the learning rate of biases, gamma and beta."),
        click.option("--int8-input", is_flag=True, help="The device takes samples as int8, in the scale of an int8 model's input."),
        click.option("--grad", type=click.Choice(["fp32", "fp16", "int8"]), default="fp32", show_default=True,
                     help="How gradients of activations are stored; int8 trains an int8 model without any floating point."),
        click.option("--loss-scale", metavar="auto|N", help="What fp16 gradients are multiplied by on their way: auto, the default, "
                     "starts at 1024, halves at an overflow and doubles behind many steps without; a power of two stays."),
        click.option("--loss-scale-steps", type=click.IntRange(1, MOST_UPDATES), show_default="200", help="Steps until auto doubles it."),
        click.option("--on-overflow", type=click.Choice(["rest", "step"]), show_default="rest",
                     help="What an overflow of fp16 gradients leaves out: updates behind it, or all, for which gradients are kept in RAM."),
        click.option("--guards", type=click.Choice(["rest", "step", "none"]), default="rest", show_default=True,
                     help="What a gradient that is not finite leaves out: updates behind it, or all, for which maps are kept in RAM; "
                     "a sample or loss that is not finite leaves out all. none: nothing is looked at."),
        click.option("--qas/--no-qas", default=True, help="Quantisation-aware scaling of int8 gradients."),
        click.option("--optimise", "--optimize", type=click.Choice(["speed", "balanced", "size"]), default="balanced", show_default=True,
                     help="What kernels compete by, where `tinytrain tune` has counted them; balanced: speed, for a tenth of flash."),
        click.option("--tuned", type=click.Path(path_type=Path), help="Table of `tinytrain tune`; that in ~/.cache/tinytrain without it."),
        SHAPES,
        click.option("--new-head", type=click.IntRange(1), metavar="N", help="Replace the classifier by a new one with N classes."),
        click.option("--head-seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of its weights."),
        click.option("--keep-batchnorm", is_flag=True, help="Do not fold batch norms into weights: gamma and beta can be trained."),
        click.option("--running-statistics", is_flag=True,
                     help="Batch norms, which are then not folded, follow the data: each update moves their mean and variance."),
        click.option("--dropout", is_flag=True, help="Keep Dropout while training, with a seeded mask."),
        click.option("--bptt", type=click.IntRange(0), default=0, metavar="K",
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
    """What `model_options` took, as the compiler's own. Raises TinytrainError where it does not fit together."""
    from tinytrain.api.choices import options_of

    schemes = given.pop("schemes")
    if len(schemes) > 1 and not several:
        raise TinytrainError(f"--scheme is given {len(schemes)} times; expected one.", hint="Only `tinytrain compile` takes several.")
    return options_of(board, schemes, choices(given))


def choices(given: Mapping[str, Any]) -> Choices:
    """What `model_options` took, with texts as what they mean. Raises TinytrainError where they mean nothing."""
    weights = given["class_weights"]
    return cast("Choices", {
        **given, "shapes": parse_shapes(given["shapes"]), "rates": dict(map(_rate, given["rates"])),
        "class_weights": weights and weights.split(","),
    })


def _rate(text: str) -> tuple[str, float]:
    layer, _, number = text.rpartition("=")
    if not layer:
        raise TinytrainError(f"--rate {text}: expected LAYER=FACTOR.", hint="`tinytrain scheme show` lists the layers.")
    return layer, _number(number)


def _number(text: str) -> float:
    """NaN where the text is no number."""
    try:
        return float(text)
    except ValueError:
        return math.nan


MODEL = click.argument("model", type=click.Path(path_type=Path))
PROJECT = click.argument("project", type=click.Path(path_type=Path))
TIMEOUT = click.option("--timeout", type=Number(0, min_open=True), default=60.0, show_default=True,
                       help="Seconds to wait for one answer of the device.")
PORT_KINDS = "/dev/ttyACM0, COM3, socket://HOST:PORT, or auto for the only one on USB"
PORT = click.option("--port", metavar="PORT", help=f"Serial port of the real board that runs PROJECT: {PORT_KINDS}; without it an "
                    "emulator, or this computer.")
BAUD = click.option("--baud", type=click.IntRange(300, 20_000_000), default=115_200, show_default=True,
                    help="Rate of --port, bits a second.")
TRUST = click.option("--trust", is_flag=True, help="Run the C of PROJECT as it is, though others made it or it was changed.")
BOARD = click.option("--board", default="host", show_default=True,
                     help="A board by name (see `tinytrain boards`), or the path of its file or folder.")


def device_options(command: Command) -> Command:
    """Options that say which device runs PROJECT. The command gets that project opened, and `timeout`; its own options stand before."""

    @functools.wraps(command)
    def opened(project: Path, port: str | None, baud: int, trust: bool, **given: Any) -> Any:
        from tinytrain.device.project import Project

        return command(project=Project.open(project, trust=trust, port=port, baud=baud), **given)

    made = cast(Command, opened)
    for option in reversed((PORT, BAUD, TIMEOUT, TRUST)):
        made = option(made)
    return made


def job_options(command: Command) -> Command:
    """Options that say where jobs run; they are the fields of `tinytrain.jobs.Jobs`."""
    for option in reversed((
        click.option("--jobs", "processes", type=click.IntRange(1), help="Processes on this machine; one a core without it."),
        click.option("--cluster", metavar="tcp://HOST:PORT", help="Run on the dask cluster with this scheduler."),
        click.option("--cache", type=click.Path(path_type=Path), help="Folder for finished results; ~/.cache/tinytrain/jobs without it."),
    )):
        command = option(command)
    return command
