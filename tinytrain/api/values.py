# SPDX-License-Identifier: Apache-2.0
"""Which values a choice may have, read off its type: a range, one of several words, yes or no."""

from __future__ import annotations

import math
import numbers
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from tinytrain.errors import TinytrainError, did_you_mean


@dataclass(frozen=True)
class Number:
    """A finite number from `least` to `most`; without the end that is `open`."""

    least: float = -math.inf
    most: float = math.inf
    open: Literal["", "least", "most"] = ""
    whole: bool = False

    def takes(self, value: object) -> bool:
        if isinstance(value, bool) or not isinstance(value, numbers.Integral if self.whole else numbers.Real):
            return False
        number = float(value)
        within = self.least <= number <= self.most and math.isfinite(number)
        return within and not (self.open == "least" and number == self.least) and not (self.open == "most" and number == self.most)

    def __str__(self) -> str:
        kind = "a whole number" if self.whole else "a number"
        if math.isinf(self.most):
            return f"{kind} above {self.least:,g}" if self.open == "least" else f"{kind} of at least {self.least:,g}"
        without = f", without {getattr(self, self.open):,g}" if self.open else ""
        return f"{kind} from {self.least:,g} to {self.most:,g}{without}"


Positive = Annotated[int, Number(1, whole=True)]
Count = Annotated[int, Number(0, whole=True)]
NotNegative = Annotated[float, Number(0)]


def checked(choices: type, given: Mapping[str, Any]) -> dict[str, Any]:
    """The same, with Python's own numbers in place of NumPy's, which JSON does not take, and a path where that may stand as text.

    Raises TinytrainError for a name that is no field, or a value that the field of that name does not take.
    """
    hints = get_type_hints(choices, include_extras=True)
    found = {}
    for name, value in given.items():
        if name not in hints:
            hint = did_you_mean(name, hints, "They are called as the options of the command line.")
            raise TinytrainError(f"There is no choice called {name}.", hint=hint)
        if (expected := _refusal(hints[name], value)) is not None:
            raise TinytrainError(f"{name} is {reprlib.repr(value)}; expected {expected}.")
        found[name] = Path(value) if isinstance(value, str) and Path in kinds(hints[name]) else _plain(value)
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return value
    return int(value) if isinstance(value, numbers.Integral) else float(value)


def kinds(hint: Any) -> list[Any]:
    """The alternatives of a type: A and None of `A | None`."""
    return [hint] if get_origin(hint) in (Annotated, Literal) or not get_args(hint) or isinstance(hint, type) else [*get_args(hint)]


def _refusal(hint: Any, value: object) -> str | None:
    """What was expected in place of the value; None where it is taken. Of other types than those of this module all is."""
    found = []
    for kind in kinds(hint):
        if kind is type(None):
            if value is None:
                return None
        elif get_origin(kind) is Annotated:
            number: Number = get_args(kind)[1]
            if number.takes(value):
                return None
            found.append(str(number))
        elif get_origin(kind) is Literal:
            words = get_args(kind)
            if value in words:
                return None
            found.append(f"one of {', '.join(words)}" if len(words) > 1 else words[0])
        elif kind is bool:
            if isinstance(value, bool):
                return None
            found.append("True or False")
        else:
            return None
    return " or ".join(found)
