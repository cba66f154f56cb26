# SPDX-License-Identifier: Apache-2.0
"""What fits where: `tinytrain fit` says what `compile` would."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from cli_runs import save_data, save_model, save_text, sentence, succeed

from tinytrain.answers.candidates import cheapest_first, depths, presets, real_boards
from tinytrain.answers.fit import Fits, Request, fit
from tinytrain.answers.nearest import suggesting
from tinytrain.compiler import Options, compile_model, load_forward
from tinytrain.emit.fit import reserved_bytes
from tinytrain.errors import DoesNotFit
from tinytrain.report.live import Quiet
from tinytrain.target.board import load_board


@pytest.fixture(scope="module")
def cnn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("models"), "cnn")


@pytest.fixture(scope="module")
def found(cnn: Path) -> Fits:
    return fit(cnn, Options(), Request(tuple(real_boards())), Quiet())


def test_depths_grow_by_halves() -> None:
    assert depths(1) == [] and depths(4) == [1, 2, 3] and depths(40) == [1, 2, 3, 4, 6, 8, 12, 16, 24, 32]


def test_presets_are_those_that_train_most_first(cnn: Path) -> None:
    *_, forward = load_forward(cnn, Options())
    assert [scheme.preset for scheme in presets(forward)] == ["full", "last:2", "last:1", "bias"]


def test_the_cheapest_board_comes_first(found: Fits) -> None:
    names = list(dict.fromkeys(answer.found.board.name for answer in found.answers))
    assert names == [board.name for board in real_boards()]
    prices = [board.price_usd for board in real_boards()]
    known = [price for price in prices if price]
    assert known == sorted(known) and prices[: len(known)] == known
    small, large = load_board("microbit"), load_board("netduinoplus2")
    assert cheapest_first([large, small]) == [small, large]


def test_a_line_is_what_compile_says(cnn: Path, found: Fits) -> None:
    """On a board that the whole model is too large for: the largest that fits compiles, the next one does not."""
    answer = next(a for a in found.answers if (a.found.board.name, a.found.dtype) == ("microbit", "fp32"))
    assert (answer.found.scheme, answer.larger and answer.larger.scheme) == ("last:1", "last:2")
    compiled = compile_model(cnn, Options(board="microbit", scheme="last:1"))
    room = answer.found.cost.room
    assert room and room.ram_bytes == compiled.plan.arena_bytes + reserved_bytes(compiled.program, compiled.board)
    assert room.ram_bytes + room.ram_left == 16 * 1024
    with pytest.raises(DoesNotFit):
        compile_model(cnn, Options(board="microbit", scheme="last:2"))


def test_every_dtype_has_its_line(found: Fits) -> None:
    rows = {(row["board"], row["dtype"]): row for row in found.plain()["rows"]}
    kit = {dtype: rows["netduinoplus2", dtype] for dtype in ("fp32", "fp16", "int8")}
    assert all(row["fits"] and row["scheme"] == "full" for row in kit.values())
    assert kit["int8"]["ram_bytes"] < kit["fp16"]["ram_bytes"] < kit["fp32"]["ram_bytes"]
    row = kit["fp32"]
    assert row["clock_hz"] == 168_000_000 and row["milliseconds"] == pytest.approx(row["cycles"] / 168_000)


def test_the_table_says_what_its_figures_mean(cnn: Path, tmp_path: Path) -> None:
    text = succeed("fit", cnn, "--board", "microbit", "--board", "netduinoplus2", "--dtype", "fp32")
    lines = text.splitlines()
    assert [line.split()[3] for line in lines[1:9]] == ["full", "last:2", "last:1", "bias"] * 2
    assert "KB of RAM short" in lines[1] and "fits, " in lines[3] and lines[4].startswith("microbit")
    assert "at the clock that the firmware sets" in text and "kernels were counted on cortex-m3" in text
    data = save_data(tmp_path / "data.npz", shape=(1, 8, 8))
    assert "random samples" not in succeed("fit", cnn, "--board", "microbit", "--scheme", "bias", "--data", data)


def test_an_int8_model_is_tried_as_it_is(cnn: Path, tmp_path: Path) -> None:
    data = save_data(tmp_path / "data.npz", shape=(1, 8, 8))
    succeed("quantize", cnn, "--data", data, "-o", tmp_path / "int8.onnx")
    rows = succeed("fit", tmp_path / "int8.onnx", "--board", "microbit").split("\n\n")[0].splitlines()[1:]
    assert {row.split()[2] for row in rows} == {"int8"}


def test_refusals(cnn: Path, tmp_path: Path) -> None:
    assert "has no scheme to fit" in sentence("fit", cnn, "--loss", "none")
    assert "There is no board 'microbot'" in sentence("fit", cnn, "--board", "microbot")
    assert "missing.onnx" in sentence("fit", tmp_path / "missing.onnx")
    mlp = save_model(tmp_path)
    assert "no batch norm left to train" in sentence("fit", mlp, "--scheme", "batchnorm")


def test_what_does_not_fit_names_the_nearest_that_does(cnn: Path, tmp_path: Path) -> None:
    """In `compile` and `scheme show`: a smaller scheme, halves, another board; each of them compiles."""
    for command in (("compile", cnn, "-o", tmp_path / "out"), ("scheme", "show", cnn)):
        said = sentence(*command, "--board", "microbit")
        nearest = [line.split("  ")[1] for line in said.splitlines() if line.startswith("  --board")]
        assert nearest == [
            "--board microbit --scheme last:1", "--board microbit --scheme last:1 --dtype fp16",
            "--board raspberry-pi-pico --scheme full",
        ]
        assert "KB of RAM and" in said and "`tinytrain fit` compares all" in said
    assert not (tmp_path / "out").exists()
    for number, options in enumerate(nearest):
        said = succeed("compile", cnn, *options.split(), "--no-build", "-o", tmp_path / str(number))
        assert said.splitlines()[-1].startswith("fits, ") and said.endswith(" of flash left\n")


def test_what_fits_says_what_is_left(cnn: Path) -> None:
    assert succeed("scheme", "show", cnn, "--board", "netduinoplus2").splitlines()[-1].startswith("fits, 105.0 KB of RAM and ")
    assert succeed("scheme", "show", cnn).splitlines()[-1] == "fits, this computer has no bound"


def test_a_board_that_nothing_fits_says_so(tmp_path: Path) -> None:
    """Too many weights for the flash of any kit, whatever is trained."""
    big = save_text(
        tmp_path / "big.onnx", "big (float[1, 2048] x) => (float[1, 2048] y) <float[2048, 2048] w> { y = MatMul(x, w) }",
        w=np.ones((2048, 2048), np.float32),
    )
    said = sentence("scheme", "show", big, "--loss", "mse", "--board", "microbit")
    assert "big is 16," in said and "KB of RAM and 16," in said and "Nothing near to it fits." in said


def test_batch_norms_are_tried_unfolded(tmp_path: Path) -> None:
    ones = np.ones(4, np.float32)
    model = save_text(
        tmp_path / "norm.onnx",
        "norm (float[1, 2, 4, 4] x) => (float[1, 4] y) <float[4, 2, 1, 1] w, float[4] a, float[4] b, float[4] c, float[4] d> {"
        " h = Conv(x, w) m = BatchNormalization(h, a, b, c, d) p = GlobalAveragePool(m) y = Flatten(p) }",
        w=np.ones((4, 2, 1, 1), np.float32), a=ones, b=ones, c=ones, d=ones,
    )
    request = Request((load_board("microbit"),), dtypes=("fp32",), every=True)
    found = fit(model, Options(), request, Quiet())
    rows = {row["scheme"]: row for row in found.plain()["rows"]}
    assert rows["full"]["trained"] == 12 and rows["batchnorm"]["trained"] == 8
    assert any("--keep-batchnorm" in note for note in found.notes)
    succeed("compile", model, "--scheme", "batchnorm", "--keep-batchnorm", "--no-build", "-o", tmp_path / "out")


def test_a_model_of_whole_numbers_has_no_int8_form(tmp_path: Path) -> None:
    text = (
        "emb (int64[1, 4] a) => (float[1, 3] y) <float[10, 6] t, float[6, 3] w>"
        " { e = Gather(t, a) m = ReduceMean<axes=[1], keepdims=0>(e) y = MatMul(m, w) }"
    )
    model = save_text(tmp_path / "emb.onnx", text, t=np.ones((10, 6), np.float32), w=np.ones((6, 3), np.float32))
    found = fit(model, Options(), Request((load_board("netduinoplus2"),)), Quiet())
    assert {answer.found.dtype for answer in found.answers} == {"fp32", "fp16"}
    assert [note for note in found.notes if "int8" in note] == [
        f"int8 is left out: {model}: input a holds whole numbers, which have no scale; expected an input of float32.",
    ]


def test_random_ranges_are_said_where_int8_alone_is_asked_for(cnn: Path) -> None:
    board = (load_board("netduinoplus2"),)
    assert any("random samples" in note for note in fit(cnn, Options(), Request(board, ("last:1",), ("int8",)), Quiet()).notes)


def test_what_lacks_is_said_where_another_board_is_not_valid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "big (float[1, 400] x) => (float[1, 300] y) <float[400, 300] w> { y = MatMul(x, w) }"
    model = save_text(tmp_path / "big.onnx", text, w=np.ones((400, 300), np.float32))
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "board.toml").write_text("core =")
    monkeypatch.setenv("TINYTRAIN_BOARDS", str(tmp_path))
    options = Options(board="nucleo-f446re", dtype="fp16")
    with pytest.raises(DoesNotFit, match=r"big needs .* bytes of RAM"), suggesting(model, options, Quiet()):
        compile_model(model, options)
