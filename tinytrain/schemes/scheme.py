# SPDX-License-Identifier: Apache-2.0
"""An update scheme: for each layer, which of its parameters are trained. A dataclass here, a TOML file for people.

    preset = "last:2"              # where the file came from; not read back

    [layers."conv7"]               # the name of the ONNX node
    weight = true                  # all; or of its input channels: 0.25 = the most important quarter, "0:12" = 0 to 11, [3, 7] = these
                                   # or of its output channels: { out = 0.25 }, { out = "0:12" }, { out = [3, 7] }
                                   # or the quarter of its input channels that matters least: { smallest = 0.25 }
    bias = true                    # likewise gamma and beta, scale, and a second one of a kind as bias_2
    rate = 0.5                     # multiplies the learning rate of this layer
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count, pairwise
from pathlib import Path
from typing import Any, Literal

from tinytrain.errors import SchemeError
from tinytrain.ir.graph import Graph, Node
from tinytrain.ir.types import Role, Value
from tinytrain.reading import plain, reading
from tinytrain.schemes.permute_channels import channel_axis, reader_of_another_layout
from tinytrain.schemes.toml import read_toml

LAST_AUTO, SPREAD_AUTO = AUTO = ("last:auto", "spread:auto")
PRESETS = "full, last:K, head, bias, bias-last:K, batchnorm, smallest:PERCENT, none, last:auto or spread:auto"
WRITE_ONE = "`tinytrain scheme MODEL -o scheme.toml` writes one that can be edited."
RATE = "rate"
SHIFTS = ("bias", "beta")
SMALLEST = "smallest"
LEAST_RATE, MOST_RATE = 1e-6, 1e6                         # between them no learning rate leaves the range of fp32
MOST_CHANNELS = 1_000_000                                 # that a file names one by one or by ranges
EXPECTED = "a scheme file"

_MANY = f"expected at most {MOST_CHANNELS:,} channels in a file"
_RANGE = re.compile(r"([0-9]{1,9}):([0-9]{1,9})")


@dataclass(frozen=True)
class Select:
    """What of a parameter is updated: all; the most important `fraction` of its channels, or the least important one (`smallest`); or the
    `channels` given, in ascending order.

    `side` says which channels of a weight: those that it reads ("in") or those that it makes ("out").
    """

    fraction: float = 1.0
    channels: tuple[int, ...] = ()
    side: Literal["in", "out"] = "in"
    smallest: bool = False

    @property
    def whole(self) -> bool:
        return self.fraction == 1.0 and not self.channels

    def plain(self) -> Any:
        """As it stands in a file: true, a fraction, "first:end" or a list; output channels as a table {"out": ...}, and the least important
        fraction as {"smallest": ...}."""
        if self.whole:
            return True
        part: Any = self.fraction
        if self.channels:
            first, end = self.channels[0], self.channels[-1] + 1
            part = f"{first}:{end}" if end - first == len(self.channels) else list(self.channels)
        return {SMALLEST: part} if self.smallest else {"out": part} if self.side == "out" else part


@dataclass(frozen=True)
class Layer:
    """A node with parameters (and what is added and multiplied right after it), under the name of its ONNX node."""

    name: str
    parameters: Mapping[str, Value]


@dataclass(frozen=True)
class Scheme:
    """Layer name -> what is updated of each kind of parameter: `weight`, `bias`, `scale`, `gamma`, `beta`, and of a second one `bias_2`.

    `rates` multiply the learning rate.
    """

    layers: Mapping[str, Mapping[str, Select]]
    preset: str = ""
    rates: Mapping[str, float] = field(default_factory=dict)

    def to_toml(self) -> str:
        lines = ['# tinytrain update scheme: true = trained on the device; 0.25, "0:12", [3, 7] or { out = ... } = only these channels']
        if self.preset:
            lines.append(f"preset = {_quoted(self.preset)}")
        for name, kinds in self.plain().items():
            lines += ["", f"[layers.{_quoted(name)}]", *(f"{kind} = {_toml(part)}" for kind, part in kinds.items())]
        return "\n".join(lines) + "\n"

    def plain(self) -> dict[str, dict[str, Any]]:
        """Layer name -> lines of its table in a file."""
        rates = {name: {RATE: rate} for name, rate in self.rates.items() if name in self.layers}
        return {name: {**{k: s.plain() for k, s in kinds.items()}, **rates.get(name, {})} for name, kinds in self.layers.items()}


def _quoted(text: str) -> str:
    """A basic string of TOML: quotes, backslashes and all that cannot be printed are written by their code."""
    return '"' + "".join(ch if ch.isprintable() and ch not in '"\\' else f"\\U{ord(ch):08X}" for ch in text) + '"'


def _toml(part: Any) -> str:
    return f"{{ {', '.join(f'{k} = {json.dumps(v)}' for k, v in part.items())} }}" if isinstance(part, dict) else json.dumps(part)


def layers(graph: Graph) -> list[Layer]:
    """Layers with parameters in execution order: all that can be trained of a graph, each value once, in the first layer that reads it.

    What is added or multiplied right behind a layer belongs to it, elsewhere it is a layer of its own.
    """
    found: dict[str, dict[str, Value]] = {}
    producers = graph.producers()
    owner: dict[Value, str] = {}
    taken: set[Value] = set()
    for node in graph.nodes:
        held = [(kind, v) for i, kind in node.op.parameters.items() if (v := _learned(_made_of(node.inputs[i], producers)))]
        behind = [_made_of(v, producers, node.origin) for v in node.inputs] if node.op.extends_layer else []
        name = next((owner[v] for v in behind if v in owner), node.origin)
        if not held or not name:
            continue
        owner[node.outputs[0]] = name
        for kind, v in held:
            if v not in taken:
                taken.add(v)
                kinds = found.setdefault(name, {})
                kinds[_unused(kind, kinds)] = v
    return [Layer(name, parameters) for name, parameters in found.items()]


def _made_of(operand: Value, producers: Mapping[Value, Node], origin: str | None = None) -> Value:
    """What an operand is made of alone, transposed, scaled or spread; with an `origin`, by nodes of that one only."""
    while (made := producers.get(operand)) and len(made.inputs) == 1 and origin in (None, made.origin):
        operand = made.inputs[0]
    return operand


def _learned(v: Value) -> Value | None:
    """A stored value that came from the model to be trained."""
    return v if v.role is Role.PARAM or (v.role is Role.CONST and v.source is not None) else None


def _unused(kind: str, kinds: Mapping[str, Value]) -> str:
    """`bias`, or if the layer has one `bias_2`, `bias_3`."""
    return next(name for number in count(1) if (name := kind if number == 1 else f"{kind}_{number}") not in kinds)


def is_shift(kind: str) -> bool:
    """Whether a kind of parameter is added to what flows: a bias or a β."""
    return kind.partition("_")[0] in SHIFTS


def is_auto(scheme: str | Scheme) -> bool:
    """Whether it is a preset that fills a budget, which a planner must know (`search.fill`)."""
    return scheme in AUTO


def preset(text: str, graph: Graph) -> Scheme:
    """A scheme by its name. Raises SchemeError for anything else, and for what fills a budget.

    `full`; `last:K`, all of the last K layers; `head`, the last one; `bias`, all shifts (arXiv 2007.11622); `bias-last:K`, those of the
    last K layers (arXiv 2206.15472); `batchnorm`, γ and β alone (arXiv 2003.00152); `smallest:P`, of each weight whose channels can be told
    apart the P % of its input channels with the smallest norms (arXiv 2409.06633, there single weights); `none`.
    """
    all_layers = layers(graph)
    name, _, number = text.partition(":")
    last = int(number) if re.fullmatch(r"[0-9]{1,9}", number) else 0
    plain = {
        "none": [], "full": all_layers, "head": all_layers[-1:], "bias": all_layers,
        "batchnorm": [layer for layer in all_layers if "gamma" in layer.parameters],
    }
    if text in plain:
        chosen = plain[text]
    elif name == SMALLEST and 0 < last < 100:
        part = Select(last / 100, smallest=True)
        found = {layer.name: {"weight": part} for layer in all_layers if _divides(graph, layer.parameters.get("weight"))}
        return Scheme(found, text)
    elif name in ("last", "bias-last") and last:
        if last > len(all_layers) > 0:
            there = f"{len(all_layers)} layer{'s' if len(all_layers) > 1 else ''}"
            message = f"{text}: {graph.name} has {there} that can be trained; expected {name}:{len(all_layers)} or less."
            raise SchemeError(message, hint=f"{'full' if name == 'last' else 'bias'} trains all of them.")
        chosen = all_layers[-last:]
    elif is_auto(text):
        message = f"Scheme {text} fills a budget of RAM, and here is none; expected a scheme file."
        raise SchemeError(message, hint=f"Write one: tinytrain scheme show MODEL --scheme {text} --budget 100K -o scheme.toml.")
    else:
        raise SchemeError(f"Unknown scheme {text!r}; expected {PRESETS}, or the path of a .toml file.", hint=WRITE_ONE)
    if text == "batchnorm" and not chosen:
        message = f"{graph.name} has no batch norm left to train: they are folded into the weights before them."
        raise SchemeError(message, hint="Give --keep-batchnorm, if the model has any.")
    shifts = name in ("bias", "bias-last")
    updates = {layer.name: {k: Select() for k in layer.parameters if is_shift(k) or not shifts} for layer in chosen}
    return Scheme({name: selected for name, selected in updates.items() if selected}, text)


def _divides(graph: Graph, weight: Value | None) -> bool:
    """Whether some of the input channels of a weight can be trained alone."""
    return weight is not None and channel_axis(graph, weight, "in") is not None and not reader_of_another_layout(graph, weight)


def load(path: Path) -> Scheme:
    """Read a scheme file. Raises SchemeError where it is missing, no TOML, of the wrong shape, or larger than any model needs."""
    with reading(path, EXPECTED, SchemeError, WRITE_ONE):
        return _scheme(path, read_toml(path, EXPECTED, WRITE_ONE))


def _scheme(path: Path, data: Mapping[str, Any]) -> Scheme:
    tables, name = data.get("layers", {}), data.get("preset", "")
    if not isinstance(tables, dict) or set(data) - {"layers", "preset"}:
        raise SchemeError(f'{path}: has {plain(", ".join(data))}; expected tables like [layers."fc1"].', hint=WRITE_ONE)
    if not isinstance(name, str):
        raise SchemeError(f"{path}: preset is {_shown(name)}; expected a text: it only says where the scheme came from.", hint=WRITE_ONE)
    chosen: dict[str, dict[str, Select]] = {}
    rates: dict[str, float] = {}
    channels = 0
    for layer, table in tables.items():
        where = f"{path}: layer {plain(layer)!r}"
        if not isinstance(table, dict):
            raise SchemeError(f"{where} must hold lines like `weight = true`.", hint=WRITE_ONE)
        if RATE in table:
            rates[layer] = _rate(where, table.pop(RATE))
        chosen[layer] = {}
        for kind, value in table.items():
            selected = _select(f"{where} updates {_shown(value)} of its {plain(kind)}", value)
            if selected:
                chosen[layer][kind] = selected
                channels += len(selected.channels)
            if channels > MOST_CHANNELS:
                raise SchemeError(f"{path}: names {channels:,} channels up to layer {plain(layer)!r}; {_MANY}.", hint=WRITE_ONE)
    return Scheme(chosen, name, rates)


def _rate(where: str, value: object) -> float:
    if type(value) not in (int, float) or not (value == 0 or LEAST_RATE <= value <= MOST_RATE):  # type: ignore[operator]
        message = f"{where} has the rate {_shown(value)}; expected a number: 0, or {LEAST_RATE:g} to {MOST_RATE:,.0f}."
        raise SchemeError(message, hint="It multiplies the learning rate: 1 changes nothing.")
    return float(value)  # type: ignore[arg-type]


def _select(where: str, value: Any) -> Select | None:
    """What a line of a file says; None where it is false."""
    side: Literal["in", "out"] = "in"
    smallest = isinstance(value, dict) and value.keys() == {SMALLEST} and type(value[SMALLEST]) is float
    if smallest:
        value = value[SMALLEST]
    if isinstance(value, dict) and len(value) == 1 and set(value) <= {"in", "out"}:
        side = "out" if "out" in value else "in"
        value = next(iter(value.values()))
    if isinstance(value, bool):
        return Select() if value else None
    if isinstance(value, (int, float)):
        if not 0 < value <= 1:
            raise SchemeError(f"{where}; expected a fraction above 0 and not above 1.", hint="Channels are given as a list: [0, 3].")
        return Select(float(value), side=side, smallest=smallest and value < 1)
    if isinstance(value, str) and (found := _RANGE.fullmatch(value)):
        first, end = map(int, found.groups())
        if end - first > MOST_CHANNELS:
            raise SchemeError(f"{where}; {_MANY}.", hint="The end of a range is the number of channels at most.")
        if first < end:
            return Select(channels=tuple(range(first, end)), side=side)
    if isinstance(value, list) and value and all(type(n) is int and n >= 0 for n in value):
        channels = tuple(sorted(value))
        if twice := [a for a, b in pairwise(channels) if a == b]:
            raise SchemeError(f"{where}; channel {twice[0]} is there twice.", hint="Name each channel once.")
        return Select(channels=channels, side=side)
    message = f'{where}; expected `weight = true`, a fraction as 0.25, a range as "0:12", a list as [3, 7], or one as {{ out = ... }}.'
    raise SchemeError(message, hint='A name with dots is quoted, [layers."block1.conv"].' if isinstance(value, dict) else WRITE_ONE)


def _shown(value: object) -> str:
    """A value of a file, as a sentence can hold it."""
    return plain(json.dumps(value, default=str))


def check_trains(scheme: Scheme, graph: Graph, frozen: Sequence[str] = ()) -> None:
    """Raise SchemeError where a scheme trains nothing; `none` does so on purpose. `frozen` says what no scheme can train, and why."""
    if any(scheme.layers.values()) or scheme.preset == "none":
        return
    known = layers(graph)
    if not known:
        stored = f", but with {', '.join(frozen)}" if frozen else ""
        message = f"{graph.name} has nothing to train: it computes with no weight, bias or factor that was learned{stored}."
        raise SchemeError(message, hint="Compile it for inference only: --loss none.")
    has = ", ".join(dict.fromkeys(kind for layer in known for kind in layer.parameters))
    message = f"The scheme{f' {scheme.preset}' if scheme.preset else ''} trains nothing of {graph.name}, whose layers have {has}."
    raise SchemeError(message, hint="Choose another one (`full` trains all), or --scheme none if the device shall only evaluate.")


def check_rates(rates: Mapping[str, float], schemes: Sequence[Scheme]) -> None:
    """Raise SchemeError for the rate of a layer that none of the schemes trains."""
    trained = {name for scheme in schemes for name in scheme.layers}
    if idle := next((name for name in rates if name not in trained), None):
        message = f"--rate has no effect on layer {plain(idle)!r}, which is not trained."
        raise SchemeError(message, hint="Leave it out, or choose a --scheme that trains it.")


def with_rates(scheme: Scheme, rates: Mapping[str, float], graph: Graph) -> Scheme:
    """The scheme with these rates of layers in place of its own. Raises SchemeError where a layer does not exist, or for such a rate."""
    if not rates:
        return scheme
    known = [layer.name for layer in layers(graph)]
    if missing := [name for name in rates if name not in known]:
        near = difflib.get_close_matches(missing[0], known, n=3, cutoff=0.3) or known[-3:]
        message = f"--rate is given for layer {plain(missing[0])!r}, which {graph.name} does not have."
        raise SchemeError(message, hint=f"Nearest names: {', '.join(near)}.")
    return replace(scheme, rates={**scheme.rates, **{name: _rate(f"--rate: layer {plain(name)!r}", rate) for name, rate in rates.items()}})


def resolve(scheme: str | Scheme, graph: Graph) -> Scheme:
    """A preset by name, or a scheme file by path; a scheme as it is."""
    if isinstance(scheme, Scheme):
        return scheme
    return load(Path(scheme)) if scheme.endswith(".toml") else preset(scheme, graph)


def weights_of(schemes: Sequence[str | Scheme], graph: Graph) -> frozenset[str]:
    """Names of the layers of which any of the schemes trains the weight. Raises SchemeError."""
    return frozenset(name for scheme in schemes for name, kinds in resolve(scheme, graph).layers.items() if "weight" in kinds)
