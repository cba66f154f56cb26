# SPDX-License-Identifier: Apache-2.0
"""What can be chosen of a model and its training, by the names that the command line's options have: checked, and as the compiler takes it.

An error names an option as the command line does: `--clip-norm` is `clip_norm` here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn, TypedDict, cast, get_args

from tinytrain.api.values import Count, NotNegative, Number, Positive, checked
from tinytrain.compiler import Gradients, Options
from tinytrain.emit.tuned import Optimise
from tinytrain.errors import TinytrainError
from tinytrain.frontend.new_head import NewHead
from tinytrain.gradient.distil import Distil
from tinytrain.gradient.loss_scale import LossScale
from tinytrain.gradient.methods import method
from tinytrain.gradient.objective import Objective, losses
from tinytrain.gradient.replay import Replay
from tinytrain.gradient.update import Kind, Optimiser
from tinytrain.ir.graph import Guards
from tinytrain.ops.loss_scale import LARGEST, LEAST
from tinytrain.ops.schedule import Course as CourseName
from tinytrain.ops.schedule import Schedule
from tinytrain.origins import origin
from tinytrain.quantise.ranges import Method
from tinytrain.schemes.precision import Rule, load

if TYPE_CHECKING:
    from tinytrain.schemes.scheme import Scheme


MOST_UPDATES = 2**30
AUTO, BALANCED = "auto", "balanced"                       # a learning rate, and weights of classes, that samples decide
MOST_FACTOR = 1e6
MOST_ENTRIES = 64                                         # of a table of rates
Updates = Annotated[int, Number(1, MOST_UPDATES, whole=True)]
Bound = Annotated[float, Number(1e-6, 1e6)]


class Course(TypedDict, total=False):
    """How the learning rate changes: from `lr` on, after so many updates of `warmup`, by `schedule`: constant, step, cosine, or a table.

    A step multiplies it by `schedule_factor` after each `schedule_steps` updates; a cosine ends then; both stop at `lr_min`. A table, as
    table:0=1,500=0.3, says by what it is multiplied from which update on. None is constant where a model is compiled, and a cosine where
    it is trained, which ends with the training unless `schedule_steps` says when.
    """

    schedule: str | None
    warmup: Annotated[int, Number(0, MOST_UPDATES, whole=True)]
    schedule_steps: Updates | None
    schedule_factor: Annotated[float, Number(1e-6, 1)] | None
    lr_min: NotNegative | None


class Choices(Course, total=False):
    """`tinytrain compile --help` says what each is for. `loss` None is ce where something can be trained."""

    loss: str | None
    label_smoothing: Annotated[float, Number(0, 1, "most")] | None
    class_weights: Sequence[float | str] | Literal["balanced"] | None
    temperature: Annotated[float, Number(0.01, 100)] | None
    focal_gamma: Annotated[float, Number(0, 100, "least")] | None
    confidence: Annotated[float, Number(0.01, 1, "most")] | None
    huber_delta: Bound | None
    method: str
    lr: NotNegative | Literal["auto"]
    rates: Mapping[str, float]
    optimiser: Kind
    momentum: Annotated[float, Number(0, 1, "most")]
    momentum_type: Literal["fp32", "int8"]
    nesterov: bool
    weight_decay: NotNegative
    clip_value: Bound | None
    clip_norm: Bound | None
    accumulate: Positive
    rounding: Literal["stochastic", "nearest", "residual", "truncate"]
    dtype: Literal["fp32", "fp16", "int8"]
    master: Literal["fp32", "none"] | None
    fp32: Sequence[str]
    precision: str | Path | None
    bias_factor: NotNegative
    int8_input: bool
    grad: Gradients
    loss_scale: str | float | None
    loss_scale_steps: Updates | None
    on_overflow: Literal["rest", "step"] | None
    guards: Guards
    replay: str | None
    distil: str | None
    qas: bool
    optimise: Optimise
    tuned: str | Path | None
    shapes: Mapping[str, tuple[int, ...]]
    new_head: Positive | None
    head_seed: Count
    keep_batchnorm: bool
    running_statistics: bool
    dropout: bool
    bptt: Count


class Placing(TypedDict, total=False):
    """What a board is told besides."""

    budget: Positive | None
    cores: Positive
    store: Count
    tolerance: Annotated[float, Number(0, 1, "least")] | None
    elastic: Annotated[float, Number(0, 1e9, "least")] | None


class Quantising(TypedDict, total=False):
    """How a model is quantised."""

    method: Method
    percentile: Annotated[float, Number(50, 100, "least")]
    equalise: bool
    bias_correction: bool
    adaround: bool
    per_tensor: bool
    bits: Literal["8", "4", "mixed"]
    flash_budget: Positive | None
    samples: Positive


class Teaching(Course, total=False):
    """How a device is trained."""

    epochs: Positive
    lr: NotNegative | None
    holdout: Annotated[float, Number(0, 0.9)]
    seed: Count
    limit: Positive | None
    skip_below: NotNegative | None
    skip_above: NotNegative | None
    scheme: Count
    patience: Positive | None
    balanced: bool


STEADY = Course(schedule=None, warmup=0, schedule_steps=None, schedule_factor=None, lr_min=None)
DEFAULTS = Choices(
    **STEADY, loss=None, label_smoothing=None, class_weights=None, temperature=None, focal_gamma=None, confidence=None,
    huber_delta=None, lr=0.01, rates={}, method="backprop", optimiser="sgd", momentum=0.0, momentum_type="fp32",
    nesterov=False, weight_decay=0.0, clip_value=None, clip_norm=None, accumulate=1, rounding="stochastic", dtype="fp32", master=None,
    fp32=(), precision=None, bias_factor=1.0,
    int8_input=False, grad="fp32",
    loss_scale=None, loss_scale_steps=None, on_overflow=None, guards="rest", replay=None, distil=None,
    qas=True, optimise="balanced", tuned=None, shapes={},
    new_head=None, head_seed=0, keep_batchnorm=False, running_statistics=False, dropout=False, bptt=0,
)


def options_of(board: str, schemes: Sequence[str | Scheme], choices: Choices) -> Options:
    """The compiler's options. Raises TinytrainError where choices do not fit each other, SchemeError for a bad `precision`."""
    given = checked(Choices, {**DEFAULTS, **choices})
    if not schemes:
        raise TinytrainError("No scheme is given; expected one at least, as full or last:2.", hint="scheme='none' trains nothing.")
    for name, word in (("lr", AUTO), ("class_weights", BALANCED)):
        if given[name] == word:
            message = f"--{name.replace('_', '-')} {word} is found by samples; expected a number here."
            raise TinytrainError(message, hint="`tinytrain compile --data` finds it, and `tinytrain lr` says which rate.")
    first, *further = schemes
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
    if not given["qas"] and not method(given["method"]).backward:
        message = f"--no-qas has no effect with --method {given['method']}, whose steps are those of real weights."
        raise TinytrainError(message, hint="Leave it out.")
    for name in ("fp32", "precision"):
        if given[name]:
            check_fp16(f"--{name}", given["dtype"])
    if given["dtype"] == "fp16" and given["grad"] != "fp32":
        message = f"--dtype fp16 stores gradients as fp16 too; expected no --grad {given['grad']} beside it."
        raise TinytrainError(message, hint="Leave one of them out.")
    if given["distil"] is not None and given["grad"] == "int8":
        message = "--distil compares softened scores in fp32; expected no --grad int8 beside it."
        raise TinytrainError(message, hint="Leave one of them out, or keep old samples: --replay 64.")
    masters = given["master"] == "fp32"
    if masters and given["rounding"] != "stochastic":
        message = f"--rounding {given['rounding']} and --master fp32, which keeps what rounding leaves out, are both given; expected one."
        raise TinytrainError(message, hint="Leave one of them out.")
    optimiser = Optimiser(
        given["lr"], given["momentum"], given["nesterov"], given["weight_decay"], given["accumulate"],
        kind=kind, rounding="master" if masters else given["rounding"], master=given["master"] != "none", bias_factor=given["bias_factor"],
        int8_momentum=given["momentum_type"] == "int8", clip_value=given["clip_value"] or 0.0, clip_norm=given["clip_norm"] or 0.0,
        schedule=schedule_of(given, given["lr"]),
    )
    loss = given["loss"] or "ce"
    return Options(
        board=board, loss=None if loss == "none" else loss, loss_by_default=given["loss"] is None,
        loss_options=_loss_options(loss, given), rates=dict(given["rates"]), scheme=first, optimiser=optimiser,
        fold_batchnorm=not given["keep_batchnorm"], running_statistics=given["running_statistics"], dropout=given["dropout"],
        truncate=given["bptt"],
        shapes=dict(given["shapes"]), qas=given["qas"], int8_input=given["int8_input"], grad=given["grad"], loss_scale=_loss_scale(given),
        replay=Replay.of(given["replay"]) if given["replay"] is not None else None,
        distil=Distil.of(given["distil"]) if given["distil"] is not None else None,
        method=given["method"], dtype=given["dtype"], precision=_precision(given),
        origins=(origin("precision", given["precision"]),) if given["precision"] else (),
        further_schemes=tuple(further), optimise=given["optimise"], guards=given["guards"], tuned=given["tuned"],
        new_head=NewHead(given["new_head"], given["head_seed"]) if given["new_head"] else None, asked=_asked(given),
    )


def _asked(given: Mapping[str, Any]) -> tuple[str, ...]:
    """Options that only change what a model of some kinds has."""
    asked = {
        "--keep-batchnorm": given["keep_batchnorm"], "--running-statistics": given["running_statistics"],
        "--dropout": given["dropout"], "--bptt": given["bptt"],
        "--rounding": given["rounding"] != "stochastic", "--no-qas": not given["qas"],
        "--master": given["master"] is not None and given["dtype"] == "fp32",
    }
    return tuple(option for option, is_asked in asked.items() if is_asked)


def check_fp16(option: str, dtype: str) -> None:
    """Raise TinytrainError where an option would have no effect because nothing is stored as fp16."""
    if dtype != "fp16":
        message = f"{option} has no effect with --dtype {dtype}; expected --dtype fp16."
        raise TinytrainError(message, hint="Add it, or leave the other one out.")


def schedule_of(course: Mapping[str, Any], learning_rate: float | None, *, ends: bool = False) -> Schedule:
    """The course of the learning rate; what else is in the mapping does not matter. Raises TinytrainError where it does not fit.

    Where training `ends` a cosine needs no steps, and there is one unless the course is another.
    """
    given = {name: course.get(name, default) for name, default in STEADY.items()}
    word, listed, table = (given["schedule"] or ("cosine" if ends else "constant")).partition(":")
    if word not in get_args(CourseName) or (word == "table") != bool(listed):
        message = f"schedule is {given['schedule']!r}; expected one of constant, step, cosine, or table:UPDATE=FACTOR,..."
        raise TinytrainError(message)
    kind = cast(CourseName, word)
    _, warmup, steps, factor, least = given.values()
    users = {
        "schedule_steps": ("step", "cosine"), "lr_min": ("step", "cosine"), "schedule_factor": ("step",),
        "warmup": ("constant", "step", "cosine"),
    }
    for name, courses in users.items():
        if given[name] != STEADY.get(name) and kind not in courses:
            message = f"--{name.replace('_', '-')} has no effect with --schedule {kind}; expected {' or '.join(courses)}."
            raise TinytrainError(message, hint="Leave it out.")
    if steps is None and kind in users["schedule_steps"] and not (ends and kind == "cosine"):
        raise TinytrainError(f"--schedule {kind} is given without --schedule-steps; expected a number of updates.", hint="An epoch has "
                             "as many updates as samples, and those of --replay, divided by --accumulate.")
    if kind == "cosine" and steps is not None and steps <= warmup:
        message = f"--schedule-steps {steps} ends the cosine before --warmup {warmup} does; expected more updates than that."
        raise TinytrainError(message, hint="They count from the first update on.")
    if least is not None and learning_rate is not None and least > learning_rate:
        message = f"--lr-min {least:g} lies above --lr {learning_rate:g}; expected that or less."
        raise TinytrainError(message, hint="Leave it out: the learning rate then falls towards 0.")
    return Schedule(kind, warmup, steps or 0, factor or 0.1, least or 0.0, _table(table) if listed else ())


def _table(text: str) -> tuple[tuple[int, float], ...]:
    """UPDATE=FACTOR,... as (update, factor) in order. Raises TinytrainError for holes, and what is out of order."""
    def refuse(found: str, hint: str = "Write it as table:0=1,500=0.3,2000=0.1.") -> NoReturn:
        raise TinytrainError(f"--schedule table:{text}: {found}.", hint=hint)

    entries: list[tuple[int, float]] = []
    for part in text.split(","):
        found = re.fullmatch(r"\s*(\d{1,10})=([\d.]+(?:[eE][+-]?\d{1,2})?)\s*", part)
        if not found:
            refuse(f"expected UPDATE=FACTOR between commas, found {part!r}")
        try:
            start, factor = int(found[1]), float(found[2])
        except ValueError:
            refuse(f"expected a number as factor, found {found[2]!r}")
        if start > MOST_UPDATES or factor > MOST_FACTOR:
            refuse(f"{part.strip()} is beyond update {MOST_UPDATES:,} or factor {MOST_FACTOR:g}")
        if entries and start <= entries[-1][0]:
            refuse(f"update {start} stands behind {entries[-1][0]}; expected updates in rising order")
        entries.append((start, factor))
    if entries[0][0]:
        refuse(f"it does not say what updates 0 to {entries[0][0] - 1} are multiplied by", "Begin it with 0=1.")
    if len(entries) > MOST_ENTRIES:
        refuse(f"it has {len(entries)} entries; expected {MOST_ENTRIES} at most")
    return tuple(entries)


def _precision(given: Mapping[str, Any]) -> tuple[Rule, ...]:
    """The rules of the file, which those of --fp32 follow. Raises SchemeError."""
    rules = load(given["precision"]) if given["precision"] else ()
    return (*rules, *(Rule(name, "fp32", "asked for by --fp32") for name in given["fp32"]))


def _loss_scale(given: Mapping[str, Any]) -> LossScale:
    """How fp16 gradients are scaled. Raises TinytrainError where that is no scale, or there are no such gradients."""
    names = ("loss_scale", "loss_scale_steps", "on_overflow")
    if "fp16" not in (given["grad"], given["dtype"]) and (other := next((name for name in names if given[name] is not None), None)):
        message = f"--{other.replace('_', '-')} is for gradients that are stored as fp16; expected --grad fp16 or --dtype fp16."
        raise TinytrainError(message, hint="Leave it out.")
    scale, steps, on_overflow = (given[name] for name in names)
    made = LossScale(on_overflow=on_overflow or "rest")
    if scale in (None, "auto"):
        return replace(made, steps=steps or made.steps)
    if steps is not None:
        message = f"--loss-scale-steps has no effect with --loss-scale {scale}, which stays as it is; expected --loss-scale auto."
        raise TinytrainError(message, hint="Leave one of them out.")
    try:
        return replace(made, start=float(scale), steps=0)
    except (ValueError, OverflowError):
        message = f"--loss-scale {scale}: expected auto, or a power of two from 2^{LEAST} to 2^{LARGEST}."
        raise TinytrainError(message, hint="Leave it out: auto starts at 1024.") from None


def _loss_options(loss: str, given: Mapping[str, Any]) -> dict[str, float | tuple[float, ...]]:
    """Options of a loss that were given. Raises TinytrainError where they are those of another one."""
    names = dict.fromkeys(name for kind in losses().values() for name in kind.options)
    chosen = {name: given[name] for name in names if given[name] is not None}
    own = {name for _, key, _ in Objective(loss).items if key in losses() for name in losses()[key].options}
    if other := next((name for name in chosen if name not in own), None):
        owners = " and ".join(key for key, kind in losses().items() if other in kind.options)
        message = f"--{other.replace('_', '-')} is that of --loss {owners}; expected none with --loss {loss}."
        raise TinytrainError(message, hint="Leave it out.")
    return {name: value if isinstance(value, (int, float)) else _weights(value) for name, value in chosen.items()}


def _weights(given: Sequence[float | str]) -> tuple[float, ...]:
    try:
        weights = tuple(map(float, given))
    except ValueError:
        weights = ()
    if not all(0 <= weight <= 1e6 for weight in weights) or not any(weights):
        text = ",".join(map(str, given))
        message = f"--class-weights {text}: expected one number for each class, as 1,0.5,2: 0 to 1,000,000, and not all 0."
        raise TinytrainError(message, hint="Try what a class has fewer samples than the mean one.")
    return weights
