# SPDX-License-Identifier: Apache-2.0
"""What `compile` says of the pieces of a step and of its guards: near to what an emulator counts."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from cli_runs import save_model, succeed
from fake_firmware import need_tools
from test_benchmarks import load

from tinytrain.compiler import Options, compile_model
from tinytrain.device.project import Project
from tinytrain.gradient.update import Optimiser
from tinytrain.target.board import load_board

BOARD = "mps2-an386"


def counted(out: Path) -> int:
    """Instructions of a step."""
    x = np.random.default_rng(0).random(Project.open(out).manifest.input.shape, np.float32)
    with Project.open(out).session(icount=True) as session:
        return session.train_step(x, 1).instructions or 0


def test_estimates_are_near_to_counts(tmp_path: Path) -> None:
    need_tools(load_board(BOARD))
    said = {
        guards: succeed("compile", save_model(tmp_path, "cnn"), "--board", BOARD, "--guards", guards, "-o", tmp_path / guards)
        for guards in ("none", "rest")
    }
    without, whole = (counted(tmp_path / guards) for guards in ("none", "rest"))
    pieces = json.loads((tmp_path / "rest" / "manifest.json").read_text())["pieces"]
    assert pieces["guard_instructions"] == pytest.approx(whole - without, rel=0.1)
    each = load("pieces").pieces("cnn", BOARD, tmp_path)
    assert len(each) == 1 + pieces["count"]
    assert (pieces["longest"], pytest.approx(pieces["longest_instructions"], rel=0.1)) == max(each, key=lambda piece: piece[1])
    flash = [Project.open(tmp_path / guards).sizes().flash_bytes for guards in ("none", "rest")]
    assert pieces["guard_bytes"] == pytest.approx(flash[1] - flash[0], abs=200)
    line = f"pieces     13 of a training step; the longest, conv2, takes {pieces['longest_instructions']:,} instructions (estimate)"
    assert line in said["rest"] and line.split(";")[0] in said["none"]
    assert re.search(r"^guards     rest: [\d,]+ instructions of a step and \d+ B of flash \(estimate\)", said["rest"], re.MULTILINE)
    assert "\nguards" not in said["none"]


def test_of_several_schemes_the_dearest_is_said(tmp_path: Path) -> None:
    """In whatever order they are given; a device that chooses evaluates the samples of its trials again."""
    model, several = save_model(tmp_path, "cnn"), ("--scheme", "head", "--scheme", "full")
    lines = {
        name: re.findall(r"^step       ([\d,]+) instructions.*", text, re.MULTILINE)[0]
        for name, given in {"full": (), "head": ("--scheme", "head"), "both": several, "green": (*several, "--method", "green:80")}.items()
        if (text := succeed("compile", model, "--board", BOARD, "--no-build", *given, "-o", tmp_path / name))
        and ("of the dearest scheme" in text) == (name in ("both", "green"))
    }
    full, head, both, green = (int(lines[name].replace(",", "")) for name in ("full", "head", "both", "green"))
    assert head < full == both < green < full * 1.1
    assert json.loads((tmp_path / "both" / "plan.json").read_text())["estimate"]["instructions"] == full


KINDS: tuple[dict[str, object], ...] = ({}, {"optimiser": Optimiser(accumulate=2)}, {"dtype": "fp16"}, {"further_schemes": ("bias",)})


@pytest.mark.parametrize("options", KINDS, ids=str)
def test_as_many_pieces_as_the_header_says(options: dict[str, object], tmp_path: Path) -> None:
    for board in ("host", BOARD):
        compiled = compile_model(save_model(tmp_path, "cnn"), Options(board=board, exact_seconds=0.0, **options))  # type: ignore[arg-type]
        assert compiled.pieces is not None and (compiled.pieces.longest_instructions is None) == (board == "host")
        assert f"#define CNN_TRAIN_PIECES {compiled.pieces.count}\n" in compiled.files["cnn.h"]


def test_what_only_infers_has_no_pieces(tmp_path: Path) -> None:
    assert compile_model(save_model(tmp_path, "mlp"), Options(loss=None)).pieces is None
