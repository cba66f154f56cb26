# SPDX-License-Identifier: Apache-2.0
"""Options that say how a model is read and trained, by the heading of --help that they stand under."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click

from tinytrain.cli.options import BYTES, Decorated, Number, option, together


class Words(click.Choice[str]):
    """One of some words; or a longer text, told by a mark in it, which is looked at later."""

    def __init__(self, words: Sequence[str], mark: str) -> None:
        super().__init__(words)
        self.mark = mark

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return value if self.mark in str(value) else super().convert(value, param, ctx)


MOST_UPDATES = 2**30

# Options by the heading of --help that they stand under. What is about training has no effect on what only infers.
_LEARNS = "--loss none"
reading = partial(option, section="How the model is read")
losses = partial(option, section="Loss", not_with=_LEARNS)
chosen = partial(option, section="What is trained", not_with=_LEARNS)
updates = partial(option, section="How it is updated", not_with=_LEARNS)
numbers = partial(option, section="Numbers")
gradients = partial(option, section="Numbers", not_with=_LEARNS)
kernels = partial(option, section="Kernels")
schedules = partial(option, section="Learning rate")


def _schedule(usual: str, **common: Any) -> tuple[Callable[[Decorated], Decorated], ...]:
    course = partial(schedules, **common)
    return (
        course("--schedule", type=Words(["constant", "step", "cosine"], "table:"), show_default=usual,
               metavar="constant|step|cosine|table:0=F,N=F,...",
               help="Course of the learning rate, from --lr on; table: from each of these updates on it is multiplied by that factor."),
        course("--warmup", type=click.IntRange(0, MOST_UPDATES), default=0, show_default=True, help="Updates until it is that."),
        course("--schedule-steps", type=click.IntRange(1, MOST_UPDATES),
               help="Updates from one fall to the next, or to the end of the cosine."),
        course("--schedule-factor", type=Number(1e-6, 1), show_default="0.1", help="What a step multiplies the learning rate by."),
        course("--lr-min", type=Number(0), show_default="0", help="Where the learning rate stops falling."),
    )


SHAPES = reading("--shape", "shapes", multiple=True, metavar="INPUT=1,3,32,32", help="Fix a dynamic input shape.")

# How the learning rate changes while a device trains.
schedule_options = together(*_schedule("cosine over all epochs"))

# How a model is read.
reading_options = together(
    SHAPES,
    reading("--new-head", type=click.IntRange(1), metavar="N", help="Replace the classifier by a new one with N classes."),
    reading("--head-seed", type=click.IntRange(0), default=0, show_default=True, only_with="--new-head", help="Seed of its weights."),
    reading("--keep-batchnorm", is_flag=True, help="Do not fold batch norms into weights: gamma and beta can be trained."),
    reading("--running-statistics", is_flag=True, not_with=_LEARNS,
            help="Batch norms, which are then not folded, follow the data: each update moves their mean and variance."),
    reading("--dropout", is_flag=True, not_with=_LEARNS, help="Keep Dropout while training, with a seeded mask."),
    reading("--bptt", type=click.IntRange(0), default=0, metavar="K", not_with=_LEARNS,
            help="Cut the gradients of recurrent layers at every K-th step of time; 0, the default, nowhere."),
)

LOSS = option("--loss", section="Loss", show_default="ce",
              type=Words(["ce", "ce-soft", "focal", "mse", "bce", "huber", "l1", "entropy", "pseudo", "none"], "="),
              help="Loss of training; none compiles for inference only. With several outputs one for each that is trained for, and its "
              "weight: label=ce,box=mse:0.5. entropy and pseudo learn without labels.")
SCHEME = chosen("--scheme", "schemes", default=("full",), show_default=True, multiple=True,
                help="What is trained: full, last:K, head, bias, bias-last:K, batchnorm, smallest:PERCENT, none, a scheme.toml, or as "
                "much as there is room for: last:auto, spread:auto. "
                "`compile` takes several: the device starts with the first and can switch.")


def filled_by(what: str) -> Callable[[Decorated], Decorated]:
    """A budget, which has an effect only with such options."""
    return chosen("--budget", type=BYTES, only_with=what,
                  help="RAM that it fills, as 100K: arena, buffers and stack; the board's memory without it.")


FILLED = filled_by("--scheme last:auto|spread:auto")
METHOD = chosen("--method", default="backprop", show_default=True, metavar="NAME[:ARG]",
                help="How it is trained: backprop, or with less memory: local[:BLOCKS], local-momentum[:BLOCKS], mono, "
                "forward-forward, counter-current, noprop, cascaded, ladder[:REDUCTION[:RUNGS]], lowrank[:RANK|auto], zeroth; "
                "green[:STEPS] chooses among several --scheme (docs/methods.md).")
RATES = chosen("--rate", "rates", multiple=True, metavar="LAYER=FACTOR", help="Multiply the learning rate of a layer.")

# Which gradients there are: of which loss, with respect to what.
gradient_options = together(
    LOSS,
    losses("--label-smoothing", type=Number(0, 1, max_open=True), help="Part of a label that goes to all classes, of ce."),
    losses("--class-weights", metavar="W0,W1,...|balanced",
           help="What a sample of each class counts, of ce and focal; balanced: what makes classes of --data count as much."),
    losses("--temperature", type=Number(0.01, 100), help="Of ce-soft with what a teacher says: softens the scores."),
    losses("--focal-gamma", type=Number(0, 100, min_open=True), show_default="2", help="How little focal minds what is known."),
    losses("--confidence", type=Number(0.01, 1, max_open=True), show_default="0.9",
           help="Probability from which on pseudo takes a class for the label."),
    losses("--huber-delta", type=Number(1e-6, 1e6), show_default="1", help="Error from which on huber is linear."),
    SCHEME,
)

# By which rates what is trained changes: they cost nothing.
rate_options = together(
    updates("--lr", type=Number(0, word="auto"), default=0.01, show_default=True,
            help="Learning rate to start with; of `compile` with --data also auto, as `tinytrain lr` finds it."),
    RATES,
)

# How it changes, and in which numbers, but for the course of the learning rate.
unscheduled_options = together(
    updates("--optimiser", type=click.Choice(["sgd", "adam", "adamw", "adagrad", "rmsprop"]), default="sgd", show_default=True,
            help="Rule by which gradients change weights."),
    updates("--momentum", type=Number(0, 1, max_open=True), default=0.0, show_default=True,
            help="Part of the last update that goes into the next one, of sgd and rmsprop."),
    updates("--momentum-type", type=click.Choice(["fp32", "int8"]), default="fp32", show_default=True,
            help="How momentum is kept: int8 takes a quarter of the memory."),
    updates("--nesterov", is_flag=True, help="Nesterov momentum."),
    updates("--weight-decay", type=Number(0), default=0.0, show_default=True,
            help="Part of each weight that is added to its gradient; with adamw it is taken off beside the rest."),
    updates("--bias-factor", type=Number(0), default=1.0, show_default=True,
            help="Multiplies the learning rate of biases, gamma and beta."),
    updates("--clip-value", type=Number(1e-6, 1e6), help="Bound of each element of a gradient."),
    updates("--clip-norm", type=Number(1e-6, 1e6), help="Bound of the norm of all gradients, which are then kept in RAM."),
    updates("--accumulate", type=click.IntRange(1), default=1, show_default=True, help="Samples whose gradients make one update."),
    updates("--replay", metavar="N[:int8|fp32][:samples][:balanced][:x2]",
            help="Keep N samples on the device, in uint8, as what frozen layers make of them, any of all that came: one trains again "
            "behind each new one. balanced: as many of each class."),
    updates("--distil", metavar="WEIGHT[:T]",
            help="What the model said when it started is a further target, softened by a temperature T (2): keeps what it knows, needs no "
            "old samples."),
    updates("--guards", type=click.Choice(["rest", "step", "none"]), default="rest", show_default=True,
            help="What a gradient that is not finite leaves out: updates behind it, or all, for which maps are kept in RAM; "
            "a sample or loss that is not finite leaves out all. none: nothing is looked at."),
    numbers("--dtype", type=click.Choice(["fp32", "fp16"]), default="fp32", show_default=True,
            help="How weights, activations and gradients are stored where they are floats; sums are fp32."),
    numbers("--fp32", multiple=True, metavar="LAYER",
            help="With --dtype fp16: what this layer, or all of a pattern as 'head.*', reads and writes stays fp32."),
    numbers("--precision", type=click.Path(path_type=Path), metavar="FILE",
            help="With --dtype fp16: a TOML file that says which layers stay fp32."),
    numbers("--int8-input", is_flag=True, help="The device takes samples as int8, in the scale of an int8 model's input."),
    gradients("--rounding", type=click.Choice(["stochastic", "nearest", "residual", "truncate"]), default="stochastic",
              show_default=True, help="How int8 weights are updated; residual keeps 8 more bits of each."),
    gradients("--master", type=click.Choice(["fp32", "none"]),
              help="Train fp32 weights behind what is stored, at four more bytes each for int8, two for fp16 (the default there)."),
    gradients("--grad", type=click.Choice(["fp32", "fp16", "int8"]), default="fp32", show_default=True,
              help="How gradients of activations are stored; int8 trains an int8 model without any floating point."),
    gradients("--loss-scale", metavar="auto|N", help="What fp16 gradients are multiplied by on their way: auto, the default, "
              "starts at 1024, halves at an overflow and doubles behind many steps without; a power of two stays."),
    gradients("--loss-scale-steps", type=click.IntRange(1, MOST_UPDATES), show_default="200", help="Steps until auto doubles it."),
    gradients("--on-overflow", type=click.Choice(["rest", "step"]), show_default="rest",
              help="What an overflow of fp16 gradients leaves out: updates behind it, or all, for which gradients are kept in RAM."),
    gradients("--qas/--no-qas", default=True, help="Quantisation-aware scaling of int8 gradients."),
    kernels("--optimise", "--optimize", type=click.Choice(["speed", "balanced", "size"]), default="balanced", show_default=True,
            help="What kernels compete by, where `tinytrain tune` has counted them; balanced: speed, for a tenth of flash."),
    kernels("--tuned", type=click.Path(path_type=Path), help="Table of `tinytrain tune`; that in ~/.cache/tinytrain without it."),
)

update_options = together(unscheduled_options, *_schedule("constant", not_with=_LEARNS))

# All that decides what training costs.
cost_options = together(reading_options, gradient_options, METHOD, update_options)

# All that says how a model is read and what is trained.
model_options = together(reading_options, gradient_options, rate_options, update_options)
