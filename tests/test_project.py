# SPDX-License-Identifier: Apache-2.0
"""The project itself: house rules for source files, lint and types, the wheel, start-up time, and the doctor."""

from __future__ import annotations

import re
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

from tinytrain.target import doctor

ROOT = Path(__file__).resolve().parent.parent
SOURCES = (".py", ".c", ".h", ".S", ".j2", ".sh", ".toml")
LONGEST_FILE_LINES = 400

# Of one machine, or of one package index: neither belongs into the repository.
PRIVATE = re.compile(
    rb"(?<![\w./])/(?:work|root|home/\w+|tmp/\w+)/"
    rb"|\b(?:pypi\.org|pythonhosted\.org|deb\.debian\.org|npmjs\.org|index[-]url)\b"
)


def run(*command: str | Path, cwd: Path = ROOT) -> str:
    """Standard output of a command; the test fails with all that it printed when it fails."""
    done = subprocess.run(command, cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(map(str, command))} left with {done.returncode}:\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def tracked() -> list[Path]:
    """Every file that is committed, or would be: ignored ones do not count."""
    if not (ROOT / ".git").exists():
        pytest.skip("needs a git checkout")
    names = run("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")
    return [path for name in names if name and (path := ROOT / name).is_file()]


@pytest.fixture(scope="module")
def sources(tracked: list[Path]) -> list[Path]:
    return [path for path in tracked if path.suffix in SOURCES]


def listed(paths: list[Path]) -> str:
    return "\n".join(str(path.relative_to(ROOT)) for path in paths)


def test_each_source_file_names_its_licence(sources: list[Path]) -> None:
    without = [path for path in sources if "SPDX-License-Identifier: Apache-2.0" not in "".join(path.read_text().splitlines()[:2])]
    assert not without, f"no SPDX line at the top of:\n{listed(without)}"


def test_files_stay_short(sources: list[Path]) -> None:
    long = [path for path in sources if len(path.read_text().splitlines()) >= LONGEST_FILE_LINES]
    assert not long, f"{LONGEST_FILE_LINES} lines or more; find a seam in:\n{listed(long)}"


def test_no_grab_bag_modules(sources: list[Path]) -> None:
    bags = [path for path in sources if path.stem in ("utils", "util", "helpers", "helper", "misc", "common")]
    assert not bags, f"name what it is for:\n{listed(bags)}"


def test_onnxruntime_runs_in_one_place(sources: list[Path]) -> None:
    """With its defaults, what an int8 model gives depends on the CPU (`tests/oracle_session.py`)."""
    here = {ROOT / "tests" / "oracle_session.py", ROOT / "tests" / "test_project.py"}
    others = [path for path in sources if path not in here and "InferenceSession" in path.read_text()]
    assert not others, f"take session_of from tests/oracle_session.py in:\n{listed(others)}"


def test_nothing_private_is_tracked(tracked: list[Path]) -> None:
    found = [f"{path.relative_to(ROOT)}: {match.group().decode()}" for path in tracked for match in PRIVATE.finditer(path.read_bytes())]
    assert not found, "\n".join(found)


def test_outputs_and_environments_are_ignored() -> None:
    outputs = [".venv/bin/python", "out/model.c", "examples/digits/out/result.json", ".mypy_cache/x", "dist/x.whl", "tests/__pycache__/x"]
    if not (ROOT / ".git").exists():
        pytest.skip("needs a git checkout")
    assert run("git", "check-ignore", *outputs).split() == outputs


def test_ruff() -> None:
    run(sys.executable, "-m", "ruff", "check", "--no-cache", ".")


def test_mypy() -> None:
    run(sys.executable, "-m", "mypy")


def test_command_line_starts_without_heavy_packages() -> None:
    """`tinytrain --help` must answer at once: these alone take from 0.1 s to several seconds to import."""
    heavy = ("onnx", "onnxscript", "onnx_ir", "jinja2", "ortools", "rich", "tvm", "matplotlib", "sklearn", "scipy", "pandas")
    code = f"import sys, tinytrain.cli.main; print(*sorted(set({heavy!r}) & set(sys.modules)))"
    assert run(sys.executable, "-c", code).strip() == ""


def test_wheel_carries_its_data(tmp_path: Path) -> None:
    """Built, installed in an empty environment, and used from a folder that is not the source tree."""
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path)
    (wheel,) = tmp_path.glob("*.whl")
    home = tmp_path / "env"
    venv.create(home, with_pip=False)
    python = home / "bin" / "python"
    run(sys.executable, "-m", "pip", "-q", "--python", python, "install", "--no-deps", "--no-index", wheel)
    # The dependencies are those of this environment; its own .pth files, and so the source tree, do not come along.
    site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")

    code = (
        "from pathlib import Path; import tinytrain; from tinytrain.paths import data_dir\n"
        "print(Path(tinytrain.__file__).parent)\n"
        "for name in ('codegen', 'runtime_c', 'boards'): print(data_dir(name))\n"
    )
    package, *folders = map(Path, run(python, "-c", code, cwd=tmp_path).split())
    assert package == site / "tinytrain"
    for folder in folders:
        assert folder.is_relative_to(package)
        source = ROOT / folder.name
        shipped = {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}
        assert shipped == {path.relative_to(source) for path in source.rglob("*") if path.is_file()}
    assert "doctor" in run(home / "bin" / "tinytrain", "--help", cwd=tmp_path)


# --- doctor -------------------------------------------------------------------------------------------------------


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is the whole PATH."""
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def put(shelf: Path, command: str, answer: str) -> None:
    path = shelf / command
    path.write_text(f"#!/bin/sh\necho '{answer}'\n")
    path.chmod(0o755)


@pytest.mark.parametrize(
    ("answer", "version"),
    [
        ("gcc (Debian 12.2.0-14+deb12u1) 12.2.0", "12.2.0"),
        ("arm-none-eabi-gcc (15:12.2.rel1-1) 12.2.1 20221205", "12.2.1"),
        ("QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)", "7.2.22"),
        ("Debian clang version 19.1.7 (3~deb12u1)", "19.1.7"),
        ("Debian LLD 19.1.7 (compatible with GNU linkers)", "19.1.7"),
        ("GNU Make 4.3", "4.3"),
        ("no number", None),
    ],
)
def test_doctor_reads_versions(answer: str, version: str | None) -> None:
    assert doctor.parse_version(answer) == version


def test_doctor_takes_the_first_command_that_is_new_enough(shelf: Path) -> None:
    put(shelf, "clang", "Debian clang version 14.0.6")
    old = doctor.find(doctor.CLANG)
    assert (old.found, old.version, old.get) == (False, "14.0.6", "version 16 or newer: apt-get install clang-19")
    put(shelf, "clang-16", "Ubuntu clang version 16.0.6")
    new = doctor.find(doctor.CLANG)
    assert (new.found, new.version, new.path) == (True, "16.0.6", str(shelf / "clang-16"))


def test_doctor_on_an_empty_machine(shelf: Path) -> None:
    findings = {finding.name: finding for finding in doctor.examine()}
    assert findings["python"].found
    for tool in doctor.TOOLS:
        assert findings[tool.name] == doctor.Finding(tool.name, False, None, None, tool.needed_for, tool.get)


def test_doctor_survives_a_program_that_cannot_run(shelf: Path) -> None:
    (shelf / "make").write_bytes(b"\x7fELF not really")
    (shelf / "make").chmod(0o755)
    make = next(tool for tool in doctor.TOOLS if tool.name == "make")
    assert not doctor.find(make).found


def test_doctor_does_not_import_what_it_looks_for() -> None:
    code = "import sys; from tinytrain.target.doctor import examine; examine(); print(*{'tvm', 'ortools', 'matplotlib'} & set(sys.modules))"
    assert run(sys.executable, "-c", code).strip() == ""


def test_doctor_names_an_extra_that_exists() -> None:
    extras = re.findall(r"^(\w+) = \[", (ROOT / "pyproject.toml").read_text().split("[project.optional-dependencies]")[1], re.MULTILINE)
    assert {package.extra for package in doctor.PACKAGES} <= set(extras)


def test_extras_and_exact_versions_agree() -> None:
    """Each dependency named in pyproject.toml has its exact version in constraints.txt."""
    project = (ROOT / "pyproject.toml").read_text()
    block = project[project.index("dependencies = [") : project.index("[project.scripts]")]
    asked = {name.lower() for name in re.findall(r'"([\w.-]+?)[<>=]', block)} - {"tomli"}  # only for Python 3.10
    exact = {line.split("==")[0].replace("_", "-").lower() for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line}
    assert asked <= exact, f"not in constraints.txt: {sorted(asked - exact)}"
