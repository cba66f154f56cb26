# SPDX-License-Identifier: Apache-2.0
"""--json: one document on standard output, of a kind that docs/json.md has; --quiet; and how far work is, in a pipe."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import types
import typing
from collections import Counter
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
import pytest
from cli_runs import run, save_data, save_model
from test_cli_manners import ALL

from tinytrain.cli import results
from tinytrain.cli.answer import json_of
from tinytrain.report import live
from tinytrain.report.live import Lines, training_bar

ROOT = Path(__file__).resolve().parent.parent
INTRODUCTION = """# Answers as JSON

Every command takes `--json`: standard output is then one JSON document, and standard error has everything else. `schema` names its
kind, as `"tinytrain/compile/1"`; the number is the version of that kind. Within a version fields may be added: read those that you know.
A field that goes, or means something else, makes a new version. Sizes are in bytes, accuracies and ratios parts of 1; a number that is
not finite, or not known, is `null`.

```sh
tinytrain model cnn -o model.onnx --quiet
tinytrain compile model.onnx -o out --json
```

[json-schema.json](json-schema.json) has the same as JSON Schema, under the names of the kinds. Both are made of
`tinytrain/cli/results.py`.
"""


def settle() -> None:
    """Give the module the names that it imports for types only."""
    tree = ast.parse(inspect.getsource(results))
    for block in (node for node in tree.body if isinstance(node, ast.If)):
        for line in block.body:
            assert isinstance(line, ast.ImportFrom) and line.module
            for alias in line.names:
                setattr(results, alias.name, getattr(importlib.import_module(line.module), alias.name))


settle()
KINDS: dict[str, type] = {kind.schema: kind for kind in results.Result.__subclasses__()}


def checked(text: str) -> dict[str, Any]:
    """A document, whose fields are those of its kind, and of their types."""
    found: dict[str, Any] = json.loads(text)
    kind = KINDS[found["schema"].removeprefix("tinytrain/")]
    document = {name: value for name, value in found.items() if name != "schema"}
    assert list(document) == [field.name for field in fields(kind)]
    msgspec.convert(document, type=kind, dec_hook=lambda hint, value: hint(value))
    return found


def answer(*given: object, exit_code: int = 0) -> dict[str, Any]:
    result = run(*given, "--json")
    assert result.exit_code == exit_code, result.output
    return checked(result.stdout)


# --- the page -----------------------------------------------------------------------------------------------------


def told(hint: Any) -> str:
    """A type as the page has it."""
    arguments = typing.get_args(hint)
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        return " or ".join(told(one) for one in arguments)
    if typing.get_origin(hint) in (tuple, list):
        return f"list of {told(arguments[0])}"
    if typing.get_origin(hint) is dict:
        return f"object of {told(arguments[1])}"
    if typing.get_origin(hint) is Literal:
        return " or ".join(f"`{one}`" for one in arguments)
    if is_dataclass(hint):
        return f"[{hint.__name__}](#{hint.__name__.lower()})"
    names = {int: "integer", float: "number", str: "text", Path: "text", bool: "true or false", type(None): "null", Any: "anything"}
    return names[hint]


def parts(hint: Any) -> Iterator[type]:
    """The dataclasses in a type, and in theirs."""
    if is_dataclass(hint):
        assert isinstance(hint, type)
        yield hint
        for one in typing.get_type_hints(hint).values():
            yield from parts(one)
    for one in typing.get_args(hint):
        yield from parts(one)


def fields_table(kind: type) -> str:
    hints = typing.get_type_hints(kind)
    rows = [f"| `{field.name}` | {told(hints[field.name])} |" for field in fields(kind)]
    return "\n".join(["| field | type |", "|---|---|", *rows])


def page() -> str:
    sections = []
    for schema, kind in KINDS.items():
        of = ", ".join(f"`tinytrain {command}`" for command in kind.commands)
        sections.append(f"## {schema}\n\n{f'{of}. ' if of else ''}{inspect.getdoc(kind)}\n\n{fields_table(kind)}\n")
    inner = dict.fromkeys(part for kind in KINDS.values() for part in parts(kind) if part not in KINDS.values())
    sections += [f"### {part.__name__}\n\n{inspect.getdoc(part)}\n\n{fields_table(part)}\n" for part in inner]
    return "\n".join([INTRODUCTION, *sections])


def schemas() -> str:
    kinds, definitions = msgspec.json.schema_components(KINDS.values(), schema_hook=lambda hint: {"type": "string"})
    named = {schema: definitions[kind["$ref"].rpartition("/")[2]] for schema, kind in zip(KINDS, kinds, strict=True)}
    others = {name: definition for name, definition in definitions.items() if name not in {kind.__name__ for kind in KINDS.values()}}
    return json.dumps({"kinds": named, "$defs": others}, indent=1) + "\n"


@pytest.mark.parametrize(("name", "made"), [("json.md", page), ("json-schema.json", schemas)])
def test_pages_are_those_of_the_classes(name: str, made: Any, request: pytest.FixtureRequest) -> None:
    path = ROOT / "docs" / name
    if request.config.getoption("--update-golden"):
        path.write_text(made(), encoding="utf-8")
    assert path.read_text(encoding="utf-8") == made(), "run pytest tests/test_cli_json.py --update-golden"


def test_every_command_has_one_kind() -> None:
    count = Counter(command for kind in KINDS.values() for command in kind.commands)
    assert count == Counter(" ".join(words) for words in ALL)


# --- the documents ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """mlp.onnx, data.npz and the compiled project `out`."""
    folder = tmp_path_factory.mktemp("json")
    save_data(folder / "data.npz")
    answer("compile", save_model(folder), "--scheme", "last:1", "-o", folder / "out")
    return folder


def test_compile(folder: Path) -> None:
    found = answer("compile", folder / "mlp.onnx", "--scheme", "last:2", "--board", "netduinoplus2", "--no-build", "-o", folder / "board")
    assert found["project"] == str(folder / "board") and found["board"] == "netduinoplus2"
    assert found["layers"] == ["fc2", "fc3"] and found["trained"] == 698 and found["firmware"] is None
    assert found["room"]["ram_left"] > 0
    differences = answer("diff", folder / "out", folder / "board", exit_code=1)["differences"]
    assert any(one["what"] == "board" for one in differences)


def test_train_and_what_follows(folder: Path) -> None:
    out, data = folder / "out", ("--data", folder / "data.npz")
    trained = answer("train", out, *data, "--epochs", 2, "--lr", 0.05)
    assert [epoch["epoch"] for epoch in trained["epochs"]] == [1, 2]
    assert trained["epochs"] == json.loads((out / "history.json").read_text())["epochs"]
    assert answer("evaluate", out, *data, "--learned")["samples"] == 40
    assert 0 <= answer("infer", out, *data, "-o", folder / "y.npz")["metrics"]["y"]["accuracy"] <= 1
    assert answer("stats", out)["model"] == "mlp"
    assert answer("pull", out, "--learned", "-o", folder / "w.npz")["lines"][0].startswith("pulled")
    assert len(answer("push", out, folder / "w.npz")["lines"]) == 3


def test_models(folder: Path) -> None:
    model, data = folder / "mlp.onnx", ("--data", folder / "data.npz")
    assert answer("verify", model, "--samples", 2)["passed"] is True
    assert answer("quantize", model, *data, "-o", folder / "int8.onnx")["report"]["model"] == "mlp.onnx"
    assert answer("model", "cnn", "-o", folder / "cnn.onnx")["path"] == str(folder / "cnn.onnx")
    assert 'preset = "last:1"' in answer("scheme", "write", model, "--last", 1)["scheme"]
    shown = answer("scheme", "show", model, "--board", "netduinoplus2")
    assert [layer["layer"] for layer in shown["cost"]["layers"]] == ["fc1", "fc2", "fc3"]
    assert answer("fit", model, "--board", "microbit", "--dtype", "fp32")["rows"][0]["board"] == "microbit"


def test_search(folder: Path) -> None:
    model, data = folder / "mlp.onnx", ("--data", folder / "data.npz")
    found = answer("contribution", model, *data, "--score", "fisher", "--jobs", 1, "-o", folder / "c.json")
    assert found["found"]["score"] == "fisher"
    rate = answer("lr", model, *data, "--steps", 40, "--from", 0.01, "--to", 0.032)
    assert [trial["rate"] for trial in rate["trials"]] == [0.01, 0.032] and rate["suggestion"] in (0.01, 0.032)
    given = ("--contribution", folder / "c.json", "--board", "netduinoplus2", "--method", "random", "--evaluations", 5)
    small, large = answer("search", model, *given, "--sweep", "1K,60K")["found"]
    assert small is None and large["budget_bytes"] == 60 * 1024 and "[layers" in large["scheme"]
    assert large["why"][0].startswith("chosen ")


def test_lists(folder: Path) -> None:
    assert {"name": "host"}.items() <= answer("boards")["boards"][0].items()
    assert answer("ops")["onnx"]["Conv"] == ["fp32", "int8"]
    assert any(tool["name"] == "arm-none-eabi-gcc" for tool in answer("doctor")["tools"])
    assert isinstance(answer("ports")["ports"], list)
    assert answer("new-board", "mine", "--soc", "stm32f4", "-o", folder)["path"] == str(folder / "mine" / "board.toml")
    assert answer("page", folder / "out", "-o", folder / "page.html")["path"] == str(folder / "page.html")


def test_errors_are_documents_too(folder: Path) -> None:
    result = run("compile", folder / "nope.onnx", "-o", folder / "never", "--json")
    assert result.exit_code == 2
    found = checked(result.stdout)
    assert found["error"] in result.stderr and found["hint"] == "Check the path."
    assert "No such option" in checked(run("boards", "--bord", "--json").stdout)["error"]
    assert "There is no command" in checked(run("trian", "--json").stdout)["error"]


def test_numbers_that_are_none() -> None:
    assert json.loads(json_of("x/1", {"a": float("nan"), "b": (float("inf"), 1.5), "c": Path("a")})) == {
        "schema": "tinytrain/x/1", "a": None, "b": [None, 1.5], "c": "a",
    }
    with pytest.raises(TypeError):
        json_of("x/1", {"a": np.float32(1)})


def test_no_command_prints_by_itself() -> None:
    for path in (ROOT / "tinytrain" / "cli").glob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert path.stem in ("answer", "command") or not ("click.echo" in text or "print(" in text), f"{path.name}: return an Answer"


# --- quiet, and progress ------------------------------------------------------------------------------------------


def test_quiet_says_what_was_asked_and_nothing_else(folder: Path) -> None:
    for made in (("compile", folder / "mlp.onnx", "-o", folder / "quiet"), ("train", folder / "quiet", "--data", folder / "data.npz")):
        assert run(*made, "--quiet").output == ""
    assert "loss" in run("evaluate", folder / "quiet", "--data", folder / "data.npz", "-q").stdout
    result = run("train", folder / "nope", "--data", folder / "data.npz", "--quiet")
    assert result.exit_code == 2 and result.stderr


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_line_every_ten_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "EVERY_SECONDS", 10.0)
    said: list[str] = []
    told_: list[str] = []
    clock = Clock()
    lines = Lines(said.append, told_.append, clock)
    lines.start("epoch 1/2", 900)
    for _ in range(30):
        clock.now += 1.0
        lines.advance("loss 0.5")
    lines.say("epoch 1/2   loss 0.5")
    assert said == ["epoch 1/2   loss 0.5"]
    assert told_ == [
        "epoch 1/2  10 of 900, about 0:14:50 left  loss 0.5", "epoch 1/2  20 of 900, about 0:14:40 left  loss 0.5",
        "epoch 1/2  30 of 900, about 0:14:30 left  loss 0.5",
    ]
    clock.now += 10
    lines.start("evaluate", 1)
    lines.advance("")
    assert told_[-1] == "evaluate  1 of 1"


def test_work_in_a_pipe_says_its_lines_on_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    with training_bar() as bar:
        bar.start("work", 1)
        bar.advance("")
        bar.say("done")
    assert capsys.readouterr() == ("done\n", "")
