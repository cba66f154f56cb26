# SPDX-License-Identifier: Apache-2.0
"""What holds for every command: its help, its example, what it says of options that change nothing, and of files of other kinds."""

from __future__ import annotations

import io
import pickle
import re
import shlex
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np
import pytest
from cli_runs import run, save_model, sentence, succeed
from click.shell_completion import ShellComplete

from tinytrain.cli.command import Command, Option
from tinytrain.cli.main import SECTIONS, main


def commands(group: click.Group = main, before: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """(words, command) of every command, those of groups too."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from commands(command, (*before, name))
        else:
            yield (*before, name), command


ALL = dict(commands())


@pytest.mark.parametrize("words", ALL, ids=" ".join)
def test_help_has_an_example_that_parses(words: tuple[str, ...]) -> None:
    command = ALL[words]
    assert isinstance(command, Command), "give it cls=Command of tinytrain.cli.command"
    found = re.search(r"^Example: .*?tinytrain ([^)]*)", command.epilog or "", re.MULTILINE)
    assert found, "give it epilog='Example: tinytrain ...'"
    given = shlex.split(found[1])
    assert tuple(given[: len(words)]) == words
    command.make_context(words[-1], given[len(words):])
    assert command.epilog in succeed(*words, "--help").splitlines()


@pytest.mark.parametrize("words", ALL, ids=" ".join)
def test_options_say_what_they_are_for(words: tuple[str, ...]) -> None:
    assert [param.name for param in ALL[words].params if isinstance(param, click.Option) and not param.help] == []
    assert [param.name for param in ALL[words].params if isinstance(param, click.Option) and not isinstance(param, Option)] == []


@pytest.mark.parametrize("words", ALL, ids=" ".join)
def test_conditions_of_options_name_options(words: tuple[str, ...]) -> None:
    options = {name for param in ALL[words].params for name in param.opts}
    for param in ALL[words].params:
        for condition in (param.only_with, param.not_with) if isinstance(param, Option) else ():
            assert not condition or condition.partition(" ")[0] in options


def test_every_command_has_a_heading() -> None:
    listed = [name for names in SECTIONS.values() for name in names]
    assert sorted(listed) == main.list_commands(click.Context(main))


def test_options_of_training_stand_only_where_something_is_trained() -> None:
    has = {words: {name for param in command.params for name in param.opts} for words, command in ALL.items()}
    assert "--momentum" in has["compile",] and "--loss" in has["verify",] and "--rate" in has["scheme", "write"]
    for words in (("fit",), ("tune",), ("scheme", "show")):
        assert "--momentum" in has[words] and not has[words] & {"--lr", "--rate"}
    for words in (("verify",), ("scheme", "write"), ("quantize",)):
        assert not has[words] & {"--momentum", "--lr", "--schedule", "--rounding", "--loss-scale", "--guards"}


def test_nearest_names() -> None:
    assert "There is no command 'trian'. Did you mean train?" in sentence("trian")
    assert "Did you mean" in sentence("compile", "--bord", "host") and "--board" in sentence("compile", "--bord", "host")
    assert "Did you mean" not in sentence("xyzzy")


def test_a_board_is_named_nearest(tmp_path: Path) -> None:
    message = sentence("compile", save_model(tmp_path), "--board", "netduino-plus2", "-o", tmp_path / "out")
    assert "Did you mean netduinoplus2?" in message


@pytest.mark.parametrize(("given", "said"), [
    (("--scheme", "last:99"), "last:99: mlp has 3 layers that can be trained; expected last:3 or less.\nfull trains all of them."),
    (("--scheme", "bias-last:4"), "bias-last:4: mlp has 3 layers that can be trained; expected bias-last:3 or less."),
    (("--keep-batchnorm",), "--keep-batchnorm has no effect: {model} has no batch norm"),
    (("--running-statistics",), "--running-statistics has no effect: {model} has no batch norm"),
    (("--dropout",), "--dropout has no effect: {model} has no Dropout"),
    (("--bptt", 3), "--bptt has no effect: {model} has no recurrent layer"),
    (("--rounding", "nearest"), "--rounding has no effect: {model} has no int8 number"),
    (("--master", "fp32"), "--master has no effect: {model} has no int8 number"),
    (("--no-qas",), "--no-qas has no effect: {model} has no int8 number"),
    (("--head-seed", 3), "--head-seed has no effect without --new-head."),
    (("--loss", "none", "--momentum", 0.9), "--momentum has no effect with --loss none."),
    (("--loss", "none", "--scheme", "last:1"), "--scheme has no effect with --loss none."),
    (("--scheme", "last:1", "--rate", "fc1=0.5"), "--rate has no effect on layer 'fc1', which is not trained."),
    (("--fp16-tolerance", 0.1), "--fp16-tolerance has no effect without --data."),
], ids=str)
def test_what_changes_nothing_is_refused(given: tuple[object, ...], said: str, tmp_path: Path) -> None:
    model = save_model(tmp_path)
    message = sentence("compile", model, *given, "--no-build", "-o", tmp_path / "out")
    assert said.format(model=model) in message
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("given", "said"), [
    (("train", "out", "--data", "d", "--changed"), "--changed has no effect without --resume."),
    (("train", "out", "--data", "d", "--validation", "v", "--holdout", 0.2), "--holdout has no effect with --validation."),
    (("quantize", "m", "--data", "d", "-o", "q", "--percentile", 99), "--percentile has no effect without --method percentile."),
    (("search", "m", "--method", "random", "--seconds", 9), "--seconds has no effect without --method exact."),
    (("contribution", "m", "--data", "d", "-o", "c", "--score", "fisher", "--seeds", 2), "--seeds has no effect without --score trained."),
    (("contribution", "m", "--data", "d", "-o", "c", "--score", "fisher", "--val", "v"), "--validation has no effect without --score"),
    (("fit", "m", "--all", "--board", "host"), "--all has no effect with --board."),
    (("fit", "m", "--data", "d", "--dtype", "fp16"), "--data has no effect with --dtype fp16: samples are for int8"),
    (("pull", "out", "-o", "d", "--compress", "exact"), "--compress has no effect without --delta."),
    (("scheme", "m", "--last", 2, "--scheme", "full"), "--last has no effect with --scheme."),
    (("flash", "out", "--baud", 9600), "--baud has no effect without --port."),
], ids=str)
def test_options_that_need_others(given: tuple[object, ...], said: str) -> None:
    assert said in sentence(*given)


def test_a_table_of_counts_for_the_host_is_ignored_aloud(tmp_path: Path) -> None:
    text = succeed("compile", save_model(tmp_path), "--tuned", "counts.json", "--no-build", "-o", tmp_path / "out")
    assert "note       counts.json is ignored: kernels are not counted on the host" in text


def test_last_of_all_layers_is_no_mistake(tmp_path: Path) -> None:
    assert "preset = \"last:3\"" in succeed("scheme", save_model(tmp_path), "--last", 3)


def zipped(*names: str) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as file:
        for name in names:
            file.writestr(name, b"?")
    return content.getvalue()


def arrays() -> bytes:
    content = io.BytesIO()
    np.savez(content, w=np.zeros(3))
    return content.getvalue()


@pytest.mark.parametrize(("name", "content", "said"), [
    ("m.pt", zipped("m/data.pkl", "m/byteorder", "m/data/0"), "is a PyTorch checkpoint, which holds weights and no graph"),
    ("m.pth", b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19." + bytes(40), "is a PyTorch checkpoint"),
    ("m.ts", zipped("m/data.pkl", "m/constants.pkl", "m/code/m.py"), "is a TorchScript model"),
    ("m.pt2", zipped("m/archive_format", "m/models/model.json"), "is a PyTorch exported program"),
    ("m.keras", zipped("config.json", "model.weights.h5"), "is a Keras model"),
    ("m.h5", b"\x89HDF\r\n\x1a\n" + bytes(99), "is a Keras model"),
    ("m.tflite", b"\x1c\0\0\0TFL3" + bytes(99), "is a TensorFlow Lite model"),
    ("m.safetensors", (12).to_bytes(8, "little") + b'{"w":[1, 2]}' + bytes(9), "is a file of safetensors"),
    ("m.pkl", pickle.dumps({"w": 1}), "is a Python pickle"),
    ("m.npz", arrays(), "is an .npz of arrays"),
    ("m.zip", zipped("a.txt"), "is a zip file"),
    ("torn.pt", zipped("m/data.pkl")[:40], "is a damaged zip file"),
], ids=lambda value: value if isinstance(value, str) else "")
def test_files_of_other_kinds_are_recognised(name: str, content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    message = sentence("compile", tmp_path / name, "-o", tmp_path / "out")
    assert f"{tmp_path / name} {said}" in message and "expected an ONNX model" in message


def test_folders_of_other_kinds_are_recognised(tmp_path: Path) -> None:
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "saved_model.pb").touch()
    assert "is a TensorFlow SavedModel; expected an ONNX model." in sentence("compile", tmp_path / "saved", "-o", tmp_path / "never")
    succeed("compile", save_model(tmp_path), "--no-build", "-o", tmp_path / "out")
    assert "is a compiled project; expected an ONNX model." in sentence("compile", tmp_path / "out", "-o", tmp_path / "never")


def test_what_pytorch_writes_is_recognised(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    module = torch.nn.Linear(2, 2)
    torch.save(module.state_dict(), tmp_path / "m.pt")
    torch.save(module.state_dict(), tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    torch.jit.script(module).save(str(tmp_path / "script.pt"))
    torch.export.save(torch.export.export(module, (torch.zeros(1, 2),)), tmp_path / "program.pt2")
    for name, kind in (("m.pt", "checkpoint"), ("old.pt", "checkpoint"), ("script.pt", "TorchScript"), ("program.pt2", "exported program")):
        assert kind in sentence("compile", tmp_path / name, "-o", tmp_path / "never"), name


def test_exit_codes_stand_in_the_help() -> None:
    text = " ".join(succeed("--help").split())
    codes = ("0 done", "1 what was checked is not so", "2 input that cannot be used", "3 nothing was learned", "70 a fault of tinytrain",
             "130 interrupted")
    assert ", ".join(codes) in text
    assert run("xyzzy").exit_code == 2


@pytest.mark.parametrize(("words", "begun", "completed"), [
    ((), "tr", ["train"]),
    (("scheme",), "sh", ["show"]),
    (("compile", "m.onnx", "--board"), "netd", ["netduinoplus2"]),
    (("train", "out"), "--ep", ["--epochs"]),
    (("compile", "m.onnx", "--optimiser"), "ada", ["adagrad", "adam", "adamw"]),
])
def test_completion(words: tuple[str, ...], begun: str, completed: list[str]) -> None:
    found = ShellComplete(main, {}, "tinytrain", "_TINYTRAIN_COMPLETE").get_completions([*words], begun)
    assert sorted(item.value for item in found) == completed


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(shell: str) -> None:
    if shell == "bash" and shutil.which("bash") is None:
        pytest.skip("needs bash, whose version is looked at")
    assert "_TINYTRAIN_COMPLETE" in succeed("completion", shell)
