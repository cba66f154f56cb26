# SPDX-License-Identifier: Apache-2.0
"""What a method of learning is: which losses a training step differentiates, with respect to what.

Back-propagation has one goal, the loss of the model. Another method may change the ONNX model before it is imported, add parameters and
losses of its own, or run parts of the forward pass again so that they need not be kept. Autodiff, updates, passes and planner treat what
it makes as they treat any other graph.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from tinytrain.errors import ModelError, TinytrainError
from tinytrain.gradient.objective import Aim
from tinytrain.gradient.partial import Target
from tinytrain.ir.builder import Builder
from tinytrain.ir.graph import Graph, Program
from tinytrain.ir.op import Want
from tinytrain.ir.types import Role, Source, Value
from tinytrain.schemes.scheme import Scheme, resolve

if TYPE_CHECKING:
    import onnx

    from tinytrain.gradient.update import States
    from tinytrain.ir.types import Array


@dataclass(frozen=True)
class Goal:
    """A loss, and what it is differentiated with respect to: nothing else changes because of it. `grads` are gradients of the targets that
    the method has made itself, in order; None: autodiff makes them."""

    loss: Value
    targets: Sequence[Target]
    grads: Sequence[Value] | None = None


class Auxiliary:
    """Parameters of a method that the ONNX model does not have, by name: all schemes of a program share them."""

    def __init__(self, forward: Graph) -> None:
        self._taken = {v.source.initializer for v in forward.values() if v.source}
        self._targets: dict[str, Target] = {}

    def take(self, g: Builder, name: str, data: Array) -> Target:
        """The parameter of that name; made, and then starting from `data`, where there is none yet."""
        if name in self._targets:
            g.unique(self._targets[name].param.name)      # no other value of this graph is called so
        else:
            called = name
            while called in self._taken:
                called += "_"
            source = Source(called, data.shape, data.shape, tuple(range(data.ndim)), auxiliary=True)
            param = g.const(name, data.astype(np.float32), Role.PARAM, source)
            self._targets[name] = Target(param, param, Want(), 1.0)
        found = self._targets[name]
        assert found.param.shape == data.shape, f"{found.param!r} is wanted with shape {data.shape}"
        return found


@dataclass
class Step:
    """A training step while it is built: forward pass and loss stand in `g`, whose last input are the targets.

    `targets` are what the scheme trains, `aims` what the outputs are trained for. `loss` is what the step reports, `updates` are those that
    are no target's: a method that changes the forward pass puts others there. `states` are what is kept from step to step, `averages`
    what follows a target, by which.
    """

    g: Builder
    forward: Graph
    aims: Sequence[Aim]
    loss: Value
    targets: Sequence[Target]
    updates: dict[Value, Value]
    auxiliary: Auxiliary
    states: States
    averages: dict[Value, Value] = field(default_factory=dict)

    @property
    def output(self) -> Value:
        """What the model gives that its first loss is of."""
        return self.forward.outputs[self.aims[0].output]


@dataclass(frozen=True)
class Number:
    """A whole number that a method takes behind a colon, and what it is."""

    what: str
    least: int = 1
    most: int = 9999

    def takes(self, text: str) -> bool:
        return text.isascii() and text.isdigit() and self.least <= int(text) <= self.most

    def __str__(self) -> str:
        return f"{self.what}, {self.least} to {self.most:,}"


@dataclass(frozen=True)
class Method:
    """Base of all methods. `key` is its name on the command line, behind which `:` and an argument may stand; `backward` says whether there
    are gradients of activations, `by_layer` whether it changes just the layers whose weights the schemes name, `labels` whether it adds
    parts that know nothing before labels teach them, `reals` whether what it adds is fp32 even beside an int8 model, `chooses` whether the
    device chooses among several schemes by it. `numbers` are what may stand in the argument, one behind the other: the first fields of the
    method, which keep their defaults where they are left out."""

    key: ClassVar[str] = ""
    numbers: ClassVar[tuple[Number, ...]] = ()
    backward: ClassVar[bool] = True
    by_layer: ClassVar[bool] = False
    labels: ClassVar[bool] = False
    reals: ClassVar[bool] = False
    chooses: ClassVar[bool] = False

    @classmethod
    def of(cls, argument: str) -> Method:
        """The method with its argument, "" for none. Raises TinytrainError where it takes no such one."""
        parts = argument.split(":") if argument else []
        if len(parts) > len(cls.numbers) or not all(number.takes(part) for number, part in zip(cls.numbers, parts, strict=False)):
            expected = ", and behind a colon ".join(map(str, cls.numbers)) or "no argument"
            raise TinytrainError(f"--method {cls.key}:{argument}: expected {expected}.", hint=f"Try --method {cls.key}.")
        return cls(*map(int, parts))

    def of_schemes(self, schemes: Sequence[str | Scheme], graph: Graph) -> Method:
        """The method for the layers of the graph whose weights these schemes name. Raises SchemeError."""
        return self

    def change_model(self, model: onnx.ModelProto, path: Path) -> bool:
        """Change a prepared model in place before it is imported, shapes are inferred anew; whether it did. Raises ModelError where the
        method does not fit."""
        return False

    def scheme(self, scheme: str | Scheme, graph: Graph) -> Scheme:
        """What a scheme trains of the graph by this method. Raises SchemeError where the two do not fit each other."""
        return resolve(scheme, graph)

    def check(self, grad: str, dtype: str, schemes: int, accumulate: int, replay: bool) -> None:
        """Raises ModelError where the method does not fit other options: how gradients and floats are stored, how many schemes and samples
        of an update there are, and whether samples of a memory train again."""
        if not self.backward and (grad, dtype) != ("fp32", "fp32"):
            given = f"--grad {grad}" if grad != "fp32" else f"--dtype {dtype}"
            message = f"--method {self.key} has no gradients of activations and moves fp32 weights: {given} has nothing to change."
            raise ModelError(message, hint=f"Leave out {given}, or --method.")
        if self.reals and grad == "int8":
            message = f"--method {self.key} adds parts that are fp32; --grad int8 trains with integers alone."
            raise ModelError(message, hint="Leave out --grad int8, or --method.")
        if not self.backward and replay:
            message = f"--method {self.key} moves weights for two passes of one sample: those of --replay cannot follow it."
            raise ModelError(message, hint="Leave out --replay, or --method.")

    def check_loss(self, aims: Sequence[Aim], model: str) -> None:
        """Raises ModelError where the method needs labels, and a loss reads none."""
        if self.labels and (other := next((aim.loss.key for aim in aims if not aim.loss.labelled), None)):
            message = f"{model}: --method {self.key} adds what labels must teach first; --loss {other} reads none."
            raise ModelError(message, hint="Leave out --method, or learn from labels: --loss ce.")

    def finish(self, program: Program) -> Program:
        """The program of all entry points, with what the method needs besides."""
        return program

    def goals(self, step: Step) -> Iterator[Goal]:
        """Emit further parts of a step, each followed by its gradients, for which it is yielded: all that is differentiated.

        Raises ModelError where the method does not fit the graph: which layer, why, and what fits.
        """
        raise NotImplementedError(self.key)
