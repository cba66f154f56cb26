# SPDX-License-Identifier: Apache-2.0
"""`compile --package`: what each kind adds is what its ecosystem reads, names only files that are there, and builds to the same bits.

docs/library.md says which of the ecosystems' own tools have seen them; here their words are said by plain CMake, and their files read.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from cli_runs import sentence, succeed
from test_library import FOREIGN, NAMES, run

from tinytrain import __version__, zoo
from tinytrain.compiler import Options, compile_model, write
from tinytrain.device.project import Project
from tinytrain.target.packages import package_kinds

KINDS = ["arduino", "cmake", "cmsis-pack", "esp-idf", "platformio", "zephyr"]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With all packages at once, which do not get into each other's way."""
    folder = tmp_path_factory.mktemp("packages")
    (folder / "cnn.onnx").write_bytes(zoo.model("cnn").SerializeToString())
    write(compile_model(folder / "cnn.onnx", Options(classes=NAMES)), folder / "out", packages=KINDS)
    return folder / "out"


@pytest.fixture(scope="module")
def said(project: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """What the program of test_library says with the library as it stands."""
    program = tmp_path_factory.mktemp("plain") / "program"
    sources = [FOREIGN / "program.c", *(project / "lib").glob("*.c")]
    run("gcc", "-std=c99", "-O2", "-ffp-contract=off", f"-I{project / 'lib'}", *sources, "-o", program)
    return run(program)


def test_kinds_are_folders(project: Path) -> None:
    assert package_kinds() == KINDS
    assert {"zephyr/Kconfig", "src/cnn.c", "library.json", "tinytrain.cnn.pdsc"} <= set(Project.open(project).manifest.files)


def test_on_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "cnn.onnx").write_bytes(zoo.model("cnn").SerializeToString())
    classes = ("--classes", ",".join("abcdefghij"))
    succeed("compile", tmp_path / "cnn.onnx", "--no-build", "--package", "zephyr", *classes, "-o", tmp_path / "out")
    assert (tmp_path / "out" / "zephyr" / "module.yml").is_file()
    assert '"a", "b"' in (tmp_path / "out" / "lib" / "cnn_config.h").read_text()
    assert not (tmp_path / "out" / "library.json").exists()
    assert "'zephyr'" in sentence("compile", tmp_path / "cnn.onnx", "--package", "deb", "-o", tmp_path / "no")


@pytest.mark.parametrize("kind", ["cmake", "zephyr", "esp-idf"])
def test_built_by_cmake(kind: str, project: Path, said: str, tmp_path: Path) -> None:
    flags = [f"-DPROJECT={project}", f"-DKIND={kind}", f"-DPROGRAM={FOREIGN / 'program.c'}", "-DCMAKE_BUILD_TYPE=Release"]
    run("cmake", "-S", FOREIGN / "packages", "-B", tmp_path, *flags)
    run("cmake", "--build", tmp_path)
    assert run(tmp_path / "program") == said


def test_built_as_arduino_does(project: Path, said: str, tmp_path: Path) -> None:
    """All of src/, with that alone on the include path and no flags of ours; the sketch is C++."""
    found = dict(line.split("=", 1) for line in (project / "library.properties").read_text().splitlines())
    assert {"name", "version", "author", "maintainer", "sentence", "paragraph", "category", "url", "architectures"} <= set(found)
    assert found["version"] == __version__ and found["includes"] == "cnn_config.h"
    source = (project / "src" / "cnn.c").read_text()
    assert '#include "../lib/cnn.c"' in source
    for number, path in enumerate(sorted((project / "src").glob("*.c"))):
        run("gcc", "-O2", "-w", f"-I{project / 'src'}", "-c", path, "-o", tmp_path / f"{number}.o")
    (tmp_path / "sketch.cpp").write_text((FOREIGN / "program.c").read_text())
    run("g++", "-std=gnu++17", f"-I{project / 'src'}", "sketch.cpp", *tmp_path.glob("*.o"), "-o", "sketch", cwd=tmp_path)
    assert run(tmp_path / "sketch") == said


def test_platformio(project: Path) -> None:
    found = json.loads((project / "library.json").read_text())
    assert re.fullmatch(r"\d+\.\d+\.\d+", found["version"]) and found["license"] == "Apache-2.0"
    assert (project / found["build"]["srcDir"] / "cnn.c").is_file()
    assert (project / found["build"]["includeDir"] / found["headers"][0]).is_file()
    assert "-ffp-contract=off" in found["build"]["flags"]
    assert all((project / name).exists() for name in found["export"]["include"])


def test_files_of_zephyr_and_esp_idf(project: Path) -> None:
    yaml = pytest.importorskip("yaml")
    module = yaml.safe_load((project / "zephyr" / "module.yml").read_text())
    assert module["name"] == "cnn" and (project / module["build"]["cmake"] / "CMakeLists.txt").is_file()
    lines = (project / module["build"]["kconfig"]).read_text().splitlines()
    assert lines[1] == "config CNN" and all(line.startswith("\t") for line in lines[2:])
    component = yaml.safe_load((project / "esp-idf" / "cnn" / "idf_component.yml").read_text())
    assert component["version"] == __version__ and set(component) == {"version", "description", "license", "dependencies"}


def test_cmsis_pack(project: Path) -> None:
    """What the schema of Open-CMSIS-Pack 1.7.32 asks of these elements."""
    root = ElementTree.parse(project / "tinytrain.cnn.pdsc").getroot()
    assert root.tag == "package" and {"vendor", "name", "description", "url", "releases", "components"} == {child.tag for child in root}
    (component,) = root.iter("component")
    assert {"Cclass", "Cgroup", "Cversion"} <= set(component.attrib)
    names = [file.attrib["name"] for file in component.iter("file")]
    assert "lib/cnn.c" in names and all((project / name).exists() for name in names)
