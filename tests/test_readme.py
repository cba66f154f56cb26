# SPDX-License-Identifier: Apache-2.0
"""README and the pages of results say what is so: their tables and figures are those that the tool prints, or that are stored."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import onnx
import pytest
from conftest import ROOT
from pages import blocks

from tinytrain.frontend.supported import supported
from tinytrain.report.text import boards_text, ops_text
from tinytrain.target.board import board_names, load_board

README = (ROOT / "README.md").read_text(encoding="utf-8")
OPS, BOARDS, RESULTS = ((ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8") for name in ("ops", "boards", "results"))


def test_tables_are_those_of_the_registry() -> None:
    assert f"\n```\n{ops_text()}\n```\n" in OPS, "run `tinytrain ops` and paste it"
    assert f"\n```\n{boards_text()}\n```\n" in BOARDS, "run `tinytrain boards` and paste it"


def test_counts_are_those_of_the_registry() -> None:
    taken = supported().values()
    assert f"{sum(plain for plain, _ in taken)} ONNX ops in fp32 and {sum(integer for _, integer in taken)} in int8" in README
    kits = [board for board in map(load_board, board_names()) if not board.is_host]
    assert f"{len(kits)} boards, of which {sum(bool(board.machine) for board in kits)} run in emulators" in " ".join(README.split())


def onnx_names(text: str) -> list[str]:
    return [word for word in re.findall(r"\b[A-Z][A-Za-z]+\b", text) if onnx.defs.has(word)]


def test_what_is_refused_or_taken_by_its_definition_is_so() -> None:
    limits = (ROOT / "docs" / "limits.md").read_text(encoding="utf-8")
    (refused,) = re.findall(r"^- Refused in words: (.*)$", limits, re.MULTILINE)
    assert len(onnx_names(refused)) >= 4 and not set(onnx_names(refused)) & set(supported())
    sentence = r"that\s+ONNX\s+defines\s+by\s+others,? (.*?)\s+(?:are taken|the\s+definition)"
    defined = [name for text in re.findall(sentence, f"{OPS}{limits}", re.DOTALL) for name in onnx_names(text)]
    assert len(defined) >= 6 and not set(defined) & set(supported())
    for name in defined:
        schema = onnx.defs.get_schema(name)
        assert schema.has_function or schema.has_context_dependent_function, name


def test_conformance_is_that_of_the_stored_results() -> None:
    found = json.loads((ROOT / "benchmarks" / "results" / "conformance.json").read_text())["kinds"]
    for kind, count in found.items():
        assert f"{kind:18} {'   '.join(f'{count.get(what, 0):5,} {what}' for what in ('passed', 'refused', 'wrong'))}" in OPS
    assert not any("wrong" in count for count in found.values())
    assert found["node"]["passed"] >= 1000


def test_benchmark_block_shows_the_stored_results() -> None:
    for record in json.loads((ROOT / "benchmarks" / "results" / "micro.json").read_text()):
        assert f"{record['instructions']:,} instructions a step" in RESULTS
        assert f"{record['ram_bytes']:,} B of RAM in all" in RESULTS
    (record,) = json.loads((ROOT / "benchmarks" / "results" / "mcunet.json").read_text())
    for key, unit in {"instructions": "instructions", "forward_instructions": "instructions", "ram_bytes": "B", "flash_bytes": "B"}.items():
        assert f"{record[key]:>12,} {unit}   published" in RESULTS, f"{key}: run `make bench-mcunet` and paste it"


def test_c_example_compiles(tmp_path: Path) -> None:
    """The few lines of C that call a model, inside a function, against a generated header."""
    from tinytrain import zoo
    from tinytrain.compiler import Options, compile_model, write

    (tmp_path / "model.onnx").write_bytes(zoo.model("cnn").SerializeToString())
    write(compile_model(tmp_path / "model.onnx", Options()), tmp_path / "out")
    example = next(block.text for block in blocks("README.md") if block.language == "c")
    declarations, calls = example.split("float loss;\n")
    source = f'#include "model.h"\n{declarations}void use(const float *x, int32_t label, float *y)\n{{\nfloat loss;\n{calls}}}\n'
    (tmp_path / "use.c").write_text(source)
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("needs a C compiler")
    flags = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-Wno-unused-variable", "-I", "out/lib"]
    command = [compiler, *flags, "-c", "use.c", "-o", "use.o"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
