# SPDX-License-Identifier: Apache-2.0
"""tinytrain.toml in the working directory: what commands are given where the command line does not say it (docs/command-line.md).

    model = "model.onnx"
    scheme = "last:2"

    [train]
    epochs = 5
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from tinytrain.errors import TinytrainError, did_you_mean

FILE = Path("tinytrain.toml")
EXPECTED = "a project file of `tinytrain init`"
HINT = "Correct it, or write a new one: tinytrain init MODEL --force."
_READS_MODEL = ("compile", "verify", "quantize", "tune", "fit", "scheme write", "scheme show", "contribution", "search", "lr")
_READS_DATA = ("train", "evaluate", "infer", "quantize", "fit", "contribution", "search", "lr")
_FILLS_NOTHING = ("verify", "tune")                       # they take no budget, and are about all of a model where a scheme fills one
_ON_DEVICE = ("train", "evaluate", "infer", "flash", "stats", "pull")
# Key → the commands that take it, each with the name of its parameter.
KEYS: dict[str, dict[str, str]] = {
    "model": dict.fromkeys(_READS_MODEL, "model"),
    "board": dict.fromkeys(("compile", "tune", "scheme show", "search", "lr"), "board"),
    "data": dict.fromkeys(_READS_DATA, "data"),
    **{key: dict.fromkeys(_READS_DATA, parameter) for key, parameter in (
        ("label", "targets"), ("channels", "columns"), ("window", "window"), ("step", "step"), ("scale", "scale"), ("mean", "mean"),
        ("std", "std"), ("layout", "order"), ("normal", "normal"),
    )},
    "scheme": dict.fromkeys(("compile", "verify", "tune", "scheme show", "lr"), "schemes"),
    "budget": {"compile": "budget", "scheme show": "budget", "lr": "budget", "search": "sram"},
    "output": {"compile": "output", **dict.fromkeys(_ON_DEVICE, "project"), "page": "projects", "open": "projects"},
}
# What a key is about, as the file's comments say it.
MEANS = {
    "model": "the ONNX file", "board": "as `tinytrain boards` lists them", "data": "samples: npz, npy, csv, or a folder of images",
    "label": "columns of a csv that are the target", "channels": "columns that are the sample", "window": "rows of a series in one sample",
    "step": "rows from one to the next", "scale": "what values are multiplied by", "mean": "what is then taken off",
    "std": "what the rest is divided by", "layout": "channels-first or channels-last", "normal": "the class that is normal",
    "scheme": "what is trained", "budget": "bytes of RAM that it may take", "output": "the compiled project",
}


def file_text(values: Mapping[str, str]) -> str:
    """A project file with these keys; the others stand there as comments."""
    rows = [(f"{'' if key in values else '# '}{key} = {json.dumps(values.get(key, ''), ensure_ascii=False)}", MEANS[key]) for key in KEYS]
    width = max(len(row) for row, _ in rows)
    lines = [f"{row.ljust(width)}  # {means}" for row, means in rows]
    return "\n".join([
        "# What `tinytrain` commands in this folder are about; what the command line says counts more.", *lines, "",
        "# A table with the name of a command has more of its options:", "# [train]", "# epochs = 5", "",
    ])


def read(root: click.Context) -> dict[str, Any]:
    """What the project file says, {} where there is none. Raises TinytrainError for what is no key, and no table of a command."""
    if not FILE.is_file():
        return {}
    from tinytrain.schemes.toml import read_toml

    program = root.command
    assert isinstance(program, click.Group), program
    content = read_toml(FILE, EXPECTED, HINT)
    for key, value in content.items():
        table = isinstance(value, dict)
        known = program.list_commands(root) if table else KEYS
        if key not in known:
            message = f"{FILE} has {'a table' if table else 'the key'} {key!r}; expected {', '.join(KEYS)}, or a table of a command."
            raise TinytrainError(message, hint=did_you_mean(key, known, HINT))
        if table and isinstance(group := program.get_command(root, key), click.Group):
            inner = group.list_commands(root)
            if strange := next((name for name in value if name not in inner or not isinstance(value[name], dict)), None):
                message = f"{FILE} has {strange!r} in [{key}]; expected tables of {', '.join(inner)}."
                raise TinytrainError(message, hint=did_you_mean(strange, inner, HINT))
    return content


def defaults(content: Mapping[str, Any], command: Sequence[str], params: Sequence[click.Parameter]) -> tuple[dict[str, Any], set[str]]:
    """(parameter → its value by the project file, those among them that the command's own table has).

    Raises TinytrainError for options that the command does not have, and values that no option takes.
    """
    name = " ".join(command)
    several = {str(param.name) for param in params if param.multiple or param.nargs == -1}
    found = {
        parameter: _texts(key, value, multiple=parameter in several) for key, value in content.items()
        if not isinstance(value, dict) and (parameter := KEYS[key].get(name))
    }
    from tinytrain.schemes.scheme import is_auto

    if name in _FILLS_NOTHING and any(map(is_auto, found.get("schemes", ()))):
        del found["schemes"]
    own = _table(content, command, params)
    return {**found, **own}, set(own)


def _table(content: Mapping[str, Any], command: Sequence[str], params: Sequence[click.Parameter]) -> dict[str, Any]:
    """What the command's own table says."""
    table = content
    for word in command:
        table = inner if isinstance(inner := table.get(word), dict) else {}          # `model` is a key, and a command
    options = {option[2:]: param for param in params if isinstance(param, click.Option) for option in param.opts if option.startswith("--")}
    found: dict[str, Any] = {}
    for key, value in table.items():
        where = f"[{'.'.join(command)}] {key}"
        if key not in options:
            message = f"{FILE}: {where}: `tinytrain {' '.join(command)}` has no option --{key}."
            raise TinytrainError(message, hint=did_you_mean(key, options, HINT))
        param = options[key]
        if param.is_flag:
            if not isinstance(value, bool):
                raise TinytrainError(f"{FILE}: {where} is {value!r}; expected true or false.", hint=HINT)
            found[str(param.name)] = value
        else:
            found[str(param.name)] = _texts(where, value, multiple=param.multiple)
    return found


def _texts(where: str, value: Any, *, multiple: bool) -> str | list[str]:
    """A value as the command line would have it. Raises TinytrainError for what it has no words for."""
    several = value if isinstance(value, list) and multiple else [value]
    if not all(isinstance(one, (str, int, float)) and not isinstance(one, bool) for one in several):
        raise TinytrainError(f"{FILE}: {where} is {value!r}; expected a text or a number.", hint=HINT)
    texts = [str(one) for one in several]
    return texts if multiple else texts[0]
