# SPDX-License-Identifier: Apache-2.0
"""Examples with a main loop of their own, around the compiled library: the same lines on the host and on a board, and they learn."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from fake_firmware import need_tools

from tinytrain.compiler import Options, compile_model, write
from tinytrain.device.project import Project
from tinytrain.target.board import load_board
from tinytrain.target.size import sizes

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
BOARDS = ("host", "netduinoplus2")


def demo(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"{name}_demo", EXAMPLES / name / "demo.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def lines(name: str, folder: Path) -> list[str]:
    """What the example prints on each board, which must be what its README shows."""
    for board in BOARDS:
        need_tools(load_board(board))
    module = demo(name)
    here, there = (module.run(module.example(), board, folder) for board in BOARDS)
    assert here == there and here[-1] == "end"
    assert "\n".join(here) in (EXAMPLES / name / "README.md").read_text(encoding="utf-8")
    return list(here)


def test_gestures_are_learned_from_a_button(tmp_path: Path) -> None:
    right = [int(match[1]) for line in lines("gestures", tmp_path) if (match := re.search(r": (\d+) right", line))]
    elf = tmp_path / "netduinoplus2" / "build" / "gestures.elf"
    assert sizes(elf, load_board("netduinoplus2").memories).ram_bytes <= 8 * 1024
    assert len(right) == 12 and sum(right[-4:]) >= 58
    write(compile_model(tmp_path / "gestures.onnx", Options()), tmp_path / "frozen")
    user = demo("gestures").example().user
    with Project.open(tmp_path / "frozen").session() as session:
        known = sum(int(np.argmax(session.infer(x)) == y) for x, y in zip(user.x, user.y, strict=True))
    assert f"right in {known} of {len(user.y)} gestures" in (EXAMPLES / "gestures" / "README.md").read_text(encoding="utf-8")


def test_keywords_are_learned_from_an_enrolment(tmp_path: Path) -> None:
    before, after = (int(match[1]) for line in lines("keywords", tmp_path) if (match := re.search(r": (\d+) of 30 right", line)))
    assert before <= 10 and after >= 25


@pytest.mark.parametrize("name", ["gestures", "keywords"])
def test_samples_are_made_anew_alike(name: str) -> None:
    module = demo(name)
    one, two = module.example(), module.example()
    assert one.user.x.tobytes() == two.user.x.tobytes() and one.factory.x.tobytes() == two.factory.x.tobytes()
