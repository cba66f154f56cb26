# SPDX-License-Identifier: Apache-2.0
"""tinytrain.toml: what `init` writes, what commands take from it, and what is wrong with one."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli_runs import run, save_data, save_model, sentence, succeed

from tinytrain.cli.project_file import FILE, KEYS, file_text
from tinytrain.schemes.toml import read_toml


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with mlp.onnx and data.npz."""
    save_model(tmp_path)
    save_data(tmp_path / "data.npz")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_commands_after_init_need_no_options(here: Path) -> None:
    text = succeed("init", "mlp.onnx", "--data", "data.npz", "--scheme", "last:1", "--budget", "60K")
    assert text == "written    tinytrain.toml\nnext       tinytrain compile, then tinytrain train\n"
    assert "trained    170 weights in 1 layers: fc3" in succeed("compile")
    assert "epoch 3/3" in succeed("train", "--epochs", 3, "--lr", 0.05)
    assert "accuracy" in succeed("infer") and "loss" in succeed("evaluate", "--learned")
    assert "3 of 3 entries compared" in succeed("verify", "--samples", 3)
    assert "fc3" in succeed("scheme", "show") and "samples" in succeed("stats")
    assert "pulled" in succeed("pull", "--learned", "-o", "w.npz")
    succeed("quantize", "-o", "int8.onnx")


def test_what_fills_a_budget_breaks_no_command(here: Path) -> None:
    """Those that take no budget are about the whole model."""
    save_data(here / "data.npz", count=100)
    succeed("init", "mlp.onnx", "--data", "data.npz", "--scheme", "last:auto", "--budget", "7K")
    assert "suggested  --lr" in succeed("lr", "--steps", 80, "--from", 0.01, "--to", 0.032)
    assert "fc1_weight" in succeed("verify", "--samples", 1)


def test_the_command_line_counts_more(here: Path) -> None:
    succeed("init", "mlp.onnx", "--scheme", "last:1")
    assert "trained    698 weights in 2 layers" in succeed("compile", "--scheme", "last:2", "--no-build", "-o", "other")
    assert (here / "other" / "manifest.json").is_file() and not (here / "out").exists()


def test_a_key_may_be_called_as_a_command(here: Path) -> None:
    succeed("init", "mlp.onnx")
    succeed("model", "mlp", "-o", "other.onnx")


def test_a_table_has_options_of_its_command(here: Path) -> None:
    succeed("init", "mlp.onnx", "--data", "data.npz")
    with FILE.open("a", encoding="utf-8") as file:
        file.write('[compile]\nmomentum = 0.9\nnesterov = true\nbuild = false\n[scheme.write]\nrate = ["fc1=0.5"]\n')
    assert "firmware" not in succeed("compile")
    assert '"nesterov": true' in (here / "out" / "manifest.json").read_text()
    assert "rate = 0.5" in succeed("scheme", "write")


def test_a_table_may_say_how_to_answer(here: Path) -> None:
    FILE.write_text("[boards]\njson = true\n[compile]\nquiet = true\n")
    assert succeed("boards").startswith('{\n  "schema": "tinytrain/boards/1"')
    assert succeed("compile", "mlp.onnx", "--no-build", "-o", "out") == ""


def test_what_changes_nothing_is_refused_in_a_table_and_left_out_above(here: Path) -> None:
    succeed("init", "mlp.onnx", "--data", "data.npz", "--scheme", "last:1")
    succeed("compile", "--loss", "none", "--no-build")
    with FILE.open("a", encoding="utf-8") as file:
        file.write("[train]\nchanged = true\n")
    assert "--changed has no effect without --resume." in sentence("train")


def test_how_data_are_read_is_left_out_where_no_data_are(here: Path) -> None:
    FILE.write_text("window = 4\n")
    fit = "fit", "mlp.onnx", "--board", "netduinoplus2", "--dtype", "fp32", "--scheme", "last:1"
    succeed(*fit)
    assert "--window has no effect without --data." in sentence(*fit, "--window", 4)
    FILE.write_text("[fit]\nwindow = 4\n")
    assert "--window has no effect without --data." in sentence(*fit)


def test_a_budget_holds(here: Path) -> None:
    succeed("init", "mlp.onnx", "--budget", "4K", "--board", "netduinoplus2")
    message = sentence("compile", "--no-build")
    assert "bytes of RAM (arena, buffers, stack), the budget is 4,096." in message and "tinytrain search --sram 4096" in message
    assert not (here / "out").exists()
    succeed("compile", "--no-build", "--budget", "1M")


def test_init_with_a_budget_alone_says_how_to_find_a_scheme(here: Path) -> None:
    assert "tinytrain search -o scheme.toml" in succeed("init", "mlp.onnx", "--budget", "40K")


def test_keys_of_the_file_are_those_that_commands_read() -> None:
    values = {key: f'a "{key}"' for key in KEYS}
    assert file_text(values).count("\n# ") == 3
    assert not [line for line in file_text({}).splitlines() if line and not line.startswith("#")]


def test_what_init_writes_is_toml(here: Path) -> None:
    values = {"model": 'a "b" \\ é.onnx', "budget": "100"}
    FILE.write_text(file_text(values), encoding="utf-8")
    assert read_toml(FILE, "", "") == values


@pytest.mark.parametrize(("given", "said"), [
    (("nope.onnx",), "nope.onnx"),
    (("mlp.onnx", "--board", "netduino"), "Did you mean netduinoplus2?"),
    (("mlp.onnx", "--scheme", "last:9"), "last:9: mlp has 3 layers"),
    (("mlp.onnx", "--data", "nope.npz"), "nope.npz does not exist"),
    (("mlp.onnx", "--budget", "many"), "many is not an amount like 150K."),
    (("data.npz",), "data.npz is an .npz of arrays"),
], ids=str)
def test_init_checks_what_it_writes(given: tuple[str, ...], said: str, here: Path) -> None:
    assert said in sentence("init", *given)
    assert not FILE.exists()


def test_init_replaces_nothing_unasked(here: Path) -> None:
    FILE.write_text('model = "mine.onnx"\n')
    assert "tinytrain.toml exists already; nothing was written." in sentence("init", "mlp.onnx")
    assert FILE.read_text() == 'model = "mine.onnx"\n'
    succeed("init", "mlp.onnx", "--force")
    FILE.write_text("zzz = 1\n")
    assert "tinytrain init MODEL --force" in sentence("verify", "mlp.onnx")
    succeed("init", "mlp.onnx", "--force")                # as that says


@pytest.mark.parametrize(("text", "said"), [
    ("model = [", "tinytrain.toml: is not valid TOML"),
    ("modle = 'mlp.onnx'", "tinytrain.toml has the key 'modle'; expected model, board, data, label, channels"),
    ("modle = 'mlp.onnx'", "Did you mean model?"),
    ("[trian]\nepochs = 2", "tinytrain.toml has a table 'trian'"),
    ("[scheme]\nrate = ['fc1=0.5']", "tinytrain.toml has 'rate' in [scheme]; expected tables of show, write."),
    ("[scheme.wirte]\nlast = 1", "tinytrain.toml has 'wirte' in [scheme]; expected tables of show, write.\nDid you mean write?"),
    ("[compile]\nmomentun = 1", "tinytrain.toml: [compile] momentun: `tinytrain compile` has no option --momentun.\nDid you mean momentum"),
    ("[compile]\nmomentum = 'lots'", "tinytrain.toml: Invalid value for '--momentum'"),
    ("[compile]\nnesterov = 1", "tinytrain.toml: [compile] nesterov is 1; expected true or false."),
    ("model = true", "tinytrain.toml: model is True; expected a text or a number."),
    ("model = ['a', 'b']", "expected a text or a number."),
    ("[compile]\nlr = {a = 1}", "tinytrain.toml: [compile] lr is {'a': 1}; expected a text or a number."),
], ids=str)
def test_a_bad_file_is_named(text: str, said: str, here: Path) -> None:
    FILE.write_text(text)
    message = sentence("compile", *(() if "model" in text else ("mlp.onnx",)), "--no-build", "-o", "out")
    assert said in message
    assert not (here / "out").exists()


def test_help_needs_no_file_that_is_right(here: Path) -> None:
    FILE.write_text("model = [")
    assert "Usage" in run("--help").output
