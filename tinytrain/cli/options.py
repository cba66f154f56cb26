# SPDX-License-Identifier: Apache-2.0
"""Options and arguments that several commands share, and what they say as the compiler's own types."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from tinytrain.cli.command import Option
from tinytrain.errors import TinytrainError

if TYPE_CHECKING:
    from tinytrain.compiler import Options
    from tinytrain.gradient.loss_scale import LossScale
    from tinytrain.gradient.update import Optimiser
    from tinytrain.ops.schedule import Schedule
    from tinytrain.schemes.precision import Rule

Decorated = TypeVar("Decorated", bound=Callable[..., Any])
option = functools.partial(click.option, cls=Option)


class Number(click.FloatRange):
    """A finite number in a range: click lets NaN through, as it compares false with both ends."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number


def together(*options: Callable[[Decorated], Decorated]) -> Callable[[Decorated], Decorated]:
    """Several options as one decorator, in the order in which --help shows them."""

    def decorate(command: Decorated) -> Decorated:
        for one in reversed(options):
            command = one(command)
        return command

    return decorate


def parse_shapes(texts: Sequence[str]) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    for text in texts:
        name, _, sizes = text.rpartition("=")
        if not name or not all(re.fullmatch(r"\s*[0-9]{1,9}\s*", s) for s in sizes.split(",")):
            raise TinytrainError(f"--shape {text}: expected INPUT=1,3,32,32.")
        shapes[name] = tuple(int(s) for s in sizes.split(","))
    return shapes


def compiler_options(board: str, *, several: bool = False, **given: Any) -> Options:
    """What the options of a command say to the compiler. Raises TinytrainError where they do not fit each other.

    A command that updates nothing has no options of updates; those of the compiler then stay as they are.
    """
    from tinytrain.compiler import Options
    from tinytrain.frontend.new_head import NewHead

    first, *further = given["schemes"]
    if further and not several:
        raise TinytrainError(f"--scheme is given {1 + len(further)} times; expected one.", hint="Only `tinytrain compile` takes several.")
    loss = given["loss"] or "ce"
    options = Options(
        board=board, loss=None if loss == "none" else loss, loss_by_default=given["loss"] is None,
        loss_options=_loss_options(loss, given), rates=dict(map(_rate, given.get("rates", ()))), scheme=first,
        fold_batchnorm=not given["keep_batchnorm"], running_statistics=given["running_statistics"], dropout=given["dropout"],
        truncate=given["truncate"], shapes=parse_shapes(given["shapes"]), further_schemes=tuple(further),
        new_head=NewHead(given["new_head"], given["head_seed"]) if given["new_head"] else None, asked=_asked(given),
    )
    if "optimiser" not in given:
        return options
    return replace(
        options, optimiser=_optimiser(given), qas=given["qas"], int8_input=given["int8_input"], grad=given["grad"],
        loss_scale=_loss_scale(given), dtype=given["dtype"], precision=_precision(given), optimise=given["optimise"],
        guards=given["guards"], tuned=given["tuned"],
    )


def _asked(given: Mapping[str, Any]) -> frozenset[str]:
    """Options that only change what a model of some kinds has."""
    asked = {
        "--keep-batchnorm": given["keep_batchnorm"], "--running-statistics": given["running_statistics"],
        "--dropout": given["dropout"], "--bptt": given["truncate"],
    }
    if "optimiser" in given:
        asked |= {
            "--rounding": given["rounding"] != "stochastic", "--no-qas": not given["qas"],
            "--master": given["master"] is not None and given["dtype"] == "fp32",
        }
    return frozenset(option for option, is_asked in asked.items() if is_asked)


def _optimiser(given: dict[str, Any]) -> Optimiser:
    """How weights are updated. Raises TinytrainError where the options do not fit each other."""
    from tinytrain.gradient.update import Optimiser

    kind = given["optimiser"]
    if given["nesterov"] and not given["momentum"]:
        raise TinytrainError("--nesterov has no effect with momentum 0; expected --momentum above 0.", hint="Try --momentum 0.9.")
    if given["momentum_type"] == "int8" and not given["momentum"]:
        raise TinytrainError("--momentum-type int8 has no effect with momentum 0; expected --momentum above 0.", hint="Try --momentum 0.9.")
    if given["momentum"] and kind not in ("sgd", "rmsprop"):
        message = f"--momentum is that of SGD and RMSProp; expected none with --optimiser {kind}."
        raise TinytrainError(message, hint="Leave it out. Adam has its own.")
    if given["nesterov"] and kind != "sgd":
        raise TinytrainError(f"--nesterov is that of SGD; expected none with --optimiser {kind}.", hint="Leave it out.")
    if given["clip_value"] and given["clip_norm"]:
        raise TinytrainError("--clip-value and --clip-norm are both given; expected one.", hint="Leave one of them out.")
    for name in ("fp32", "precision"):
        if given[name]:
            check_fp16(f"--{name}", given["dtype"])
    if given["dtype"] == "fp16" and given["grad"] != "fp32":
        message = f"--dtype fp16 stores gradients as fp16 too; expected no --grad {given['grad']} beside it."
        raise TinytrainError(message, hint="Leave one of them out.")
    masters = given["master"] == "fp32"
    if masters and given["rounding"] != "stochastic":
        message = f"--rounding {given['rounding']} and --master fp32, which keeps what rounding leaves out, are both given; expected one."
        raise TinytrainError(message, hint="Leave one of them out.")
    return Optimiser(
        given["learning_rate"], given["momentum"], given["nesterov"], given["weight_decay"], given["accumulate"],
        kind=kind, rounding="master" if masters else given["rounding"], master=given["master"] != "none", bias_factor=given["bias_factor"],
        int8_momentum=given["momentum_type"] == "int8", clip_value=given["clip_value"] or 0.0, clip_norm=given["clip_norm"] or 0.0,
        schedule=schedule_of(given, given["learning_rate"]),
    )


def _precision(given: Mapping[str, Any]) -> tuple[Rule, ...]:
    """The rules of the file, which those of --fp32 follow. Raises SchemeError."""
    from tinytrain.schemes.precision import Rule, load

    rules = load(given["precision"]) if given["precision"] else ()
    return (*rules, *(Rule(name, "fp32", "asked for by --fp32") for name in given["fp32"]))


def check_fp16(option: str, dtype: str) -> None:
    """Raise TinytrainError where an option would have no effect because nothing is stored as fp16."""
    if dtype != "fp16":
        message = f"{option} has no effect with --dtype {dtype}; expected --dtype fp16."
        raise TinytrainError(message, hint="Add it, or leave the other one out.")


def calibrated_options(model: Path, data: Path, options: Options, tolerance: float | None) -> Options:
    """The options with what samples say about fp16. Raises TinytrainError."""
    from tinytrain.report.live import training_bar
    from tinytrain.search.precision import TOLERANCE, calibrated

    check_fp16("--data", options.dtype)
    with training_bar() as bar:
        return calibrated(model, data, options, TOLERANCE if tolerance is None else tolerance, bar)


def _loss_scale(given: Mapping[str, Any]) -> LossScale:
    """How fp16 gradients are scaled. Raises TinytrainError where that is no scale, or there are no such gradients."""
    from tinytrain.gradient.loss_scale import LossScale
    from tinytrain.ops.loss_scale import LARGEST, LEAST

    names = ("loss_scale", "loss_scale_steps", "on_overflow")
    if "fp16" not in (given["grad"], given["dtype"]) and (other := next((name for name in names if given[name] is not None), None)):
        message = f"--{other.replace('_', '-')} is for gradients that are stored as fp16; expected --grad fp16 or --dtype fp16."
        raise TinytrainError(message, hint="Leave it out.")
    text, steps, on_overflow = (given[name] for name in names)
    made = LossScale(on_overflow=on_overflow or "rest")
    if text in (None, "auto"):
        return replace(made, steps=steps or made.steps)
    if steps is not None:
        message = f"--loss-scale-steps has no effect with --loss-scale {text}, which stays as it is; expected --loss-scale auto."
        raise TinytrainError(message, hint="Leave one of them out.")
    try:
        return replace(made, start=float(text), steps=0)
    except (ValueError, OverflowError):
        message = f"--loss-scale {text}: expected auto, or a power of two from 2^{LEAST} to 2^{LARGEST}."
        raise TinytrainError(message, hint="Leave it out: auto starts at 1024.") from None


def _loss_options(loss: str, given: Mapping[str, Any]) -> dict[str, float | tuple[float, ...]]:
    """Options of a loss that were given. Raises TinytrainError where they are those of another one."""
    from tinytrain.gradient.objective import Objective, losses

    names = dict.fromkeys(name for kind in losses().values() for name in kind.options)
    chosen = {name: given[name] for name in names if given.get(name) is not None}
    own = {name for _, key, _ in Objective(loss).items if key in losses() for name in losses()[key].options}
    if other := next((name for name in chosen if name not in own), None):
        owners = " and ".join(key for key, kind in losses().items() if other in kind.options)
        message = f"--{other.replace('_', '-')} is that of --loss {owners}; expected none with --loss {loss}."
        raise TinytrainError(message, hint="Leave it out.")
    return {name: _weights(value) if isinstance(value, str) else value for name, value in chosen.items()}


def _weights(text: str) -> tuple[float, ...]:
    weights = tuple(map(_number, text.split(",")))
    if not all(0 <= weight <= 1e6 for weight in weights) or not any(weights):
        message = f"--class-weights {text}: expected one number for each class, as 1,0.5,2: 0 to 1,000,000, and not all 0."
        raise TinytrainError(message, hint="Try what a class has fewer samples than the mean one.")
    return weights


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


def schedule_of(given: dict[str, Any], learning_rate: float | None) -> Schedule:
    """The course of the learning rate: its options are taken out. Raises TinytrainError where they do not fit each other."""
    from tinytrain.ops.schedule import Schedule

    names = ("schedule", "warmup", "schedule_steps", "schedule_factor", "lr_min")
    given = {name: given.pop(name) for name in names}
    course, warmup, steps, factor, least = given.values()
    users = {"schedule_steps": ("step", "cosine"), "lr_min": ("step", "cosine"), "schedule_factor": ("step",)}
    for name, courses in users.items():
        if given[name] is not None and course not in courses:
            message = f"--{name.replace('_', '-')} has no effect with --schedule {course}; expected {' or '.join(courses)}."
            raise TinytrainError(message, hint="Leave it out.")
    if course != "constant" and steps is None:
        raise TinytrainError(f"--schedule {course} is given without --schedule-steps; expected a number of updates.", hint="An epoch has "
                             "as many updates as samples, divided by --accumulate.")
    if course == "cosine" and steps <= warmup:
        message = f"--schedule-steps {steps} ends the cosine before --warmup {warmup} does; expected more updates than that."
        raise TinytrainError(message, hint="They count from the first update on.")
    if least is not None and learning_rate is not None and least > learning_rate:
        message = f"--lr-min {least:g} lies above --lr {learning_rate:g}; expected that or less."
        raise TinytrainError(message, hint="Leave it out: the learning rate then falls towards 0.")
    return Schedule(course, warmup, steps or 0, factor or 0.1, least or 0.0)


MODEL = click.argument("model", type=click.Path(path_type=Path))
PROJECT = click.argument("project", type=click.Path(path_type=Path))
device = functools.partial(click.option, cls=Option, section="Device")
TIMEOUT = device("--timeout", type=Number(0, min_open=True), default=60.0, show_default=True,
                 help="Seconds to wait for one answer of the device.")
PORT_KINDS = "/dev/ttyACM0, COM3, socket://HOST:PORT, or auto for the only one on USB"
PORT = device("--port", metavar="PORT", help=f"Serial port of the real board that runs PROJECT: {PORT_KINDS}; without it an "
              "emulator, or this computer.")
BAUD_RATE: dict[str, Any] = {"type": click.IntRange(300, 20_000_000), "default": 115_200, "show_default": True}
BAUD = device("--baud", **BAUD_RATE, only_with="--port", help="Rate of --port, bits a second.")
TRUST = device("--trust", is_flag=True, help="Run the C of PROJECT as it is, though others made it or it was changed.")
BOARD = click.option("--board", default="host", show_default=True,
                     help="A board by name (see `tinytrain boards`), or the path of its file or folder.")


def device_options(command: Decorated) -> Decorated:
    """Options that say which device runs PROJECT. The command gets that project opened, and `timeout`; its own options stand before."""

    @functools.wraps(command)
    def opened(project: Path, port: str | None, baud: int, trust: bool, **given: Any) -> Any:
        from tinytrain.device.project import Project

        return command(project=Project.open(project, trust=trust, port=port, baud=baud), **given)

    return together(PORT, BAUD, TIMEOUT, TRUST)(cast(Decorated, opened))


_job = functools.partial(click.option, cls=Option, section="Where it runs")

# Where jobs run: the fields of `tinytrain.jobs.Jobs`.
job_options = together(
    _job("--jobs", "processes", type=click.IntRange(1), help="Processes on this machine; one a core without it."),
    _job("--cluster", metavar="tcp://HOST:PORT", help="Run on the dask cluster with this scheduler."),
    _job("--cache", type=click.Path(path_type=Path), help="Folder for finished results; ~/.cache/tinytrain/jobs without it."),
)
