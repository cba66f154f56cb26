# SPDX-License-Identifier: Apache-2.0
"""Methods of learning, one module each. A new one is a class in a module here and its place in the list."""

from __future__ import annotations

from tinytrain.errors import TinytrainError
from tinytrain.gradient.method import Method
from tinytrain.gradient.methods.backprop import Backprop
from tinytrain.gradient.methods.cascaded import Cascaded
from tinytrain.gradient.methods.counter_current import CounterCurrent
from tinytrain.gradient.methods.forward_forward import ForwardForward
from tinytrain.gradient.methods.green import Green
from tinytrain.gradient.methods.ladder import Ladder
from tinytrain.gradient.methods.local import Local
from tinytrain.gradient.methods.local_momentum import LocalMomentum
from tinytrain.gradient.methods.lowrank import LowRank
from tinytrain.gradient.methods.mono import Mono
from tinytrain.gradient.methods.noprop import NoProp
from tinytrain.gradient.methods.zeroth import Zeroth

METHODS: dict[str, type[Method]] = {
    kind.key: kind
    for kind in (
        Backprop, Cascaded, CounterCurrent, ForwardForward, Green, Ladder, Local, LocalMomentum, LowRank, Mono, NoProp, Zeroth,
    )
}


def method(text: str) -> Method:
    """A method by its name and argument, as `local:3`. Raises TinytrainError."""
    key, _, argument = text.partition(":")
    if key not in METHODS:
        raise TinytrainError(f"--method {text}: there is no such method; expected one of {', '.join(METHODS)}.", hint="Correct --method.")
    return METHODS[key].of(argument)
