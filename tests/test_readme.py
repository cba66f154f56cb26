# SPDX-License-Identifier: Apache-2.0
"""The README says what is so: its commands run as written, its tables and figures are those that the tool prints."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tinytrain.report.text import boards_text, ops_text

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", README, flags=re.DOTALL | re.MULTILINE)


def test_tables_are_those_of_the_registry() -> None:
    texts = [text.rstrip("\n") for kind, text in BLOCKS if not kind]
    assert f"\n```\n{ops_text()}\n```\n" in (ROOT / "docs" / "ops.md").read_text(encoding="utf-8"), "run `tinytrain ops` and paste it"
    assert boards_text() in texts, "run `tinytrain boards` and paste it"


def test_conformance_is_that_of_the_stored_results() -> None:
    found = json.loads((ROOT / "benchmarks" / "results" / "conformance.json").read_text())["kinds"]
    for kind, count in found.items():
        assert f"{kind:18} {'   '.join(f'{count.get(what, 0):5,} {what}' for what in ('passed', 'refused', 'wrong'))}" in README
    assert not any("wrong" in count for count in found.values())
    assert found["node"]["passed"] >= 1000


def test_benchmark_block_shows_the_stored_results() -> None:
    for record in json.loads((ROOT / "benchmarks" / "results" / "micro.json").read_text()):
        assert f"{record['instructions']:,} instructions a step" in README
        assert f"{record['ram_bytes']:,} B of RAM in all" in README
    (record,) = json.loads((ROOT / "benchmarks" / "results" / "mcunet.json").read_text())
    for key, unit in {"instructions": "instructions", "forward_instructions": "instructions", "ram_bytes": "B", "flash_bytes": "B"}.items():
        assert f"{record[key]:>12,} {unit}   published" in README, f"{key}: run `make bench-mcunet` and paste it"


@pytest.mark.skipif(not all(map(shutil.which, ("arm-none-eabi-gcc", "qemu-system-arm"))), reason="needs the Arm compiler and emulator")
def test_quickstart_runs_as_written(tmp_path: Path) -> None:
    script = next(text for kind, text in BLOCKS if kind == "sh")
    commands = [line for line in script.splitlines() if not line.startswith(". .venv")]
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        ["sh", "-euc", "\n".join(commands)], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=1800, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert {"history.json", "learned.npz", "learned.onnx"} <= {path.name for path in (tmp_path / "out").iterdir()}


def test_c_example_compiles(tmp_path: Path) -> None:
    """The few lines of C that call a model, inside a function, against a generated header."""
    from tinytrain import zoo
    from tinytrain.compiler import Options, compile_model, write

    (tmp_path / "model.onnx").write_bytes(zoo.model("cnn").SerializeToString())
    write(compile_model(tmp_path / "model.onnx", Options()), tmp_path / "out")
    example = next(text for kind, text in BLOCKS if kind == "c")
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
