# SPDX-License-Identifier: Apache-2.0
"""An update scheme: for each layer, which of its parameters are trained. A dataclass here, a TOML file for people.

    preset = "last:2"              # where the file came from; not read back

    [layers."fc2"]                 # the name of the ONNX node
    weight = true                  # or [0, 12]: only what belongs to input channels 0 to 11
    bias = true
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinytrain.errors import SchemeError
from tinytrain.ir.graph import Graph
from tinytrain.ir.op import Want
from tinytrain.ir.types import Role, Value

PRESETS = "full, last:K, bias or none"
WRITE_ONE = "`tinytrain scheme MODEL -o scheme.toml` writes one that can be edited."


@dataclass(frozen=True)
class Layer:
    """A node with parameters (and the bias added right after it), under the name of its ONNX node."""

    name: str
    parameters: Mapping[str, Value]


@dataclass(frozen=True)
class Scheme:
    """Layer name -> what is updated of it: kind of parameter (`weight`, `bias`, `gamma`, `beta`) -> all, or a slice of channels."""

    layers: Mapping[str, Mapping[str, Want]]
    preset: str = ""

    def values(self, graph: Graph) -> dict[Value, Want]:
        """The updated values, in the order of the layers. Raises SchemeError where the scheme does not fit the graph."""
        known = {layer.name: layer for layer in layers(graph)}
        chosen: dict[Value, Want] = {}
        for name, kinds in self.layers.items():
            if name not in known:
                near = difflib.get_close_matches(name, known, n=3, cutoff=0.3) or list(known)[-3:]
                message = f"The scheme updates layer {name!r}, which {graph.name} does not have."
                raise SchemeError(message, hint=f"Nearest names: {', '.join(near)}.")
            for kind, want in kinds.items():
                if kind not in known[name].parameters:
                    has = ", ".join(known[name].parameters)
                    raise SchemeError(f"The scheme updates {kind!r} of layer {name!r}, which has {has}.", hint="Take it out of the scheme.")
                value = known[name].parameters[kind]
                if want.channels and (kind != "weight" or not 0 <= want.channels[0] < want.channels[1] <= value.shape[-1]):
                    part = f"channels {list(want.channels)} of {kind!r} of layer {name!r}"
                    message = f"The scheme updates {part}, which has {value.shape[-1]}."
                    raise SchemeError(message, hint="A slice of a weight is [first, end) of its input channels.")
                chosen[value] = want
        return chosen

    def to_toml(self) -> str:
        lines = ["# tinytrain update scheme: true = trained on the device, [0, 12] = only the weights of input channels 0 to 11"]
        if self.preset:
            lines.append(f'preset = "{self.preset}"')
        for name, kinds in self.layers.items():
            quoted = name.replace("\\", "\\\\").replace('"', '\\"')
            lines += ["", f'[layers."{quoted}"]', *(f"{kind} = {_toml(want)}" for kind, want in kinds.items())]
        return "\n".join(lines) + "\n"


def _toml(want: Want) -> str:
    return str(list(want.channels)) if want.channels else "true"


def layers(graph: Graph) -> list[Layer]:
    """Layers with parameters in execution order. A constant shift counts as a bias only where it follows such a layer."""
    found: dict[str, dict[str, Value]] = {}
    producers = graph.producers()
    owner: dict[Value, str] = {}
    taken: set[Value] = set()
    for node in graph.nodes:
        kinds = {k: node.inputs[i] for i, k in node.op.parameters.items() if node.inputs[i].role in (Role.CONST, Role.PARAM)}
        name = node.origin
        if node.op.extends_layer:
            before = producers.get(node.inputs[0])
            name = owner.get(before.outputs[0], "") if before else ""
        fresh = {k: v for k, v in kinds.items() if v not in taken and k not in found.get(name, {})}
        if name and fresh:
            found.setdefault(name, {}).update(fresh)
            taken.update(fresh.values())
            owner[node.outputs[0]] = name
    return [Layer(name, parameters) for name, parameters in found.items()]


def preset(text: str, graph: Graph) -> Scheme:
    """`full`, `last:K` (the last K layers), `bias`, `none`. Raises SchemeError for anything else."""
    all_layers = layers(graph)
    if text == "none":
        return Scheme({}, text)
    if text == "full":
        chosen, kinds = all_layers, None
    elif text == "bias":
        chosen, kinds = all_layers, {"bias", "beta"}
    elif text.startswith("last:") and text[5:].isdecimal() and int(text[5:]) > 0:
        chosen, kinds = all_layers[-int(text[5:]):], None
    else:
        raise SchemeError(f"Unknown scheme {text!r}; expected {PRESETS}, or the path of a .toml file.", hint=WRITE_ONE)
    updates = {layer.name: {k: Want() for k in layer.parameters if kinds is None or k in kinds} for layer in chosen}
    return Scheme({name: kinds for name, kinds in updates.items() if kinds}, text)


def load(path: Path) -> Scheme:
    """Read a scheme file. Raises SchemeError where it is missing, no TOML, or of the wrong shape."""
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        data: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SchemeError(f"{path}: cannot be read ({error.strerror}); expected a scheme file.", hint=WRITE_ONE) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SchemeError(f"{path}: is not valid TOML: {error}.", hint=WRITE_ONE) from error
    tables = data.get("layers", {})
    if not isinstance(tables, dict) or set(data) - {"layers", "preset"}:
        raise SchemeError(f'{path}: has {", ".join(data)}; expected tables like [layers."fc1"].', hint=WRITE_ONE)
    chosen: dict[str, dict[str, Want]] = {}
    for name, table in tables.items():
        if not isinstance(table, dict) or not all(isinstance(flag, bool) or _is_slice(flag) for flag in table.values()):
            raise SchemeError(f"{path}: layer {name!r} must hold lines like `weight = true` or `weight = [0, 12]`.", hint=WRITE_ONE)
        chosen[name] = {kind: Want(None if flag is True else (flag[0], flag[1])) for kind, flag in table.items() if flag}
    return Scheme(chosen, str(data.get("preset", "")))


def _is_slice(flag: object) -> bool:
    return isinstance(flag, list) and len(flag) == 2 and all(type(n) is int for n in flag)


def resolve(text: str, graph: Graph) -> Scheme:
    """A preset by name, or a scheme file by path."""
    return load(Path(text)) if text.endswith(".toml") else preset(text, graph)
