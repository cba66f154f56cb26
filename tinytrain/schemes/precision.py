# SPDX-License-Identifier: Apache-2.0
"""Which layers stay fp32 where a model is stored as fp16: rules by name, in the options or in a TOML file.

    [layers]
    "head.*" = "fp32"              # a name of an ONNX node, or a pattern with * and ?
    "head.fc1" = "fp16"            # the last line that fits a layer decides
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal

from tinytrain.errors import SchemeError
from tinytrain.ir.graph import Graph
from tinytrain.reading import plain, reading
from tinytrain.schemes.toml import read_toml

Floats = Literal["fp32", "fp16"]
EXPECTED = "a precision file"
WRITE_ONE = 'It has one table, [layers], with lines like "conv1" = "fp32" or "block3.*" = "fp16".'


@dataclass(frozen=True)
class Rule:
    """How layers of this name, or of names that fit the pattern, are stored; `why` is what a person is told."""

    pattern: str
    floats: Floats
    why: str

    def fits(self, name: str) -> bool:
        return name == self.pattern or fnmatchcase(name, self.pattern)


def load(path: Path) -> tuple[Rule, ...]:
    """Read a precision file. Raises SchemeError where it is missing, no TOML, or of the wrong shape."""
    with reading(path, EXPECTED, SchemeError, WRITE_ONE):
        data = read_toml(path, EXPECTED, WRITE_ONE)
        layers = data.get("layers", {})
        if set(data) - {"layers"} or not isinstance(layers, dict):
            raise SchemeError(f"{path}: has {plain(', '.join(data))}; expected one table, [layers].", hint=WRITE_ONE)
        for name, floats in layers.items():
            if floats not in ("fp32", "fp16"):
                message = f'{path}: layer {plain(name)!r} is {plain(repr(floats))}; expected "fp32" or "fp16".'
                raise SchemeError(message, hint="A name with dots is quoted." if isinstance(floats, dict) else WRITE_ONE)
        return tuple(Rule(name, floats, f"asked for by {path.name}") for name, floats in layers.items())


def fp32_layers(rules: Sequence[Rule], graph: Graph) -> dict[str, str]:
    """The layers of a graph that stay fp32, each with why."""
    names = dict.fromkeys(node.origin for node in graph.nodes if node.origin)
    last = {name: next((rule for rule in reversed(rules) if rule.fits(name)), None) for name in names}
    return {name: rule.why for name, rule in last.items() if rule is not None and rule.floats == "fp32"}


def check_names(rules: Sequence[Rule], graph: Graph) -> None:
    """Raise SchemeError where a rule fits no layer of the model."""
    known = list(dict.fromkeys(node.origin for node in graph.nodes if node.origin))
    for rule in rules:
        if not any(map(rule.fits, known)):
            near = difflib.get_close_matches(rule.pattern, known, n=3, cutoff=0.3) or known[-3:]
            message = f"Layer {plain(rule.pattern)!r} is {rule.why}, but {graph.name} does not have it."
            raise SchemeError(message, hint=f"Nearest names: {', '.join(near)}.")
