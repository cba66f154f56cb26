# SPDX-License-Identifier: Apache-2.0
"""Whose code runs: a folder that others made, or that was changed, is neither built nor run unless that is asked for (docs/trust.md)."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from cli_runs import save_data, save_model, sentence, succeed, tree

from tinytrain.seal import _key, is_sealed, seal


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trust")
    save_data(folder / "d.npz", count=5)
    succeed("compile", save_model(folder), "-o", folder / "out")
    return folder / "out"


@pytest.fixture
def out(built: Path, tmp_path: Path) -> Path:
    shutil.copy(built.parent / "d.npz", tmp_path)
    return shutil.copytree(built, tmp_path / "out")


def infer(out: Path, *more: object) -> tuple[object, ...]:
    return ("infer", out, "--data", out.parent / "d.npz", *more)


@pytest.fixture
def never_built(monkeypatch: pytest.MonkeyPatch) -> None:
    def build(*_: object) -> None:
        raise AssertionError("something was built")

    monkeypatch.setattr("tinytrain.target.build.build_apart", build)


def of_somebody_else(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(folder))


@pytest.mark.usefixtures("never_built")
def test_an_unchanged_project_is_not_built_again(out: Path) -> None:
    moved = out.rename(out.with_name("moved"))
    assert "accuracy" in succeed(*infer(moved))


CHANGED = ["lib/mlp.c", "lib/mlp.h", "app/main.c", "app/tt_link.c", "lib/tt_types.h", "Makefile", "model.onnx", "scheme.toml", "golden.npz"]


@pytest.mark.usefixtures("never_built")
@pytest.mark.parametrize("name", CHANGED)
def test_a_changed_file_is_named(name: str, out: Path) -> None:
    file = out / name
    file.write_bytes(file.read_bytes() + b"\n")
    before = tree(out)
    for call in (infer(out), ("train", *infer(out)[1:])):
        text = sentence(*call)
        assert f"{file} differs from what `tinytrain compile` wrote.\nGive --trust to work with the folder as it is, or compile" in text
    assert tree(out) == before


@pytest.mark.usefixtures("never_built")
def test_a_changed_manifest_or_a_missing_file(out: Path) -> None:
    manifest = out / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"accumulate": 1', '"accumulate": 2'))
    assert f"{out} was not compiled by you on this computer, or its manifest.json has changed since." in sentence(*infer(out))
    (out / "manifest.seal").unlink()
    assert "Give --trust if you know who made it" in sentence(*infer(out))


@pytest.mark.usefixtures("never_built")
def test_a_missing_file(out: Path) -> None:
    (out / "app" / "main.c").unlink()
    assert f"{out / 'app' / 'main.c'}: cannot be read (No such file or directory)" in sentence(*infer(out))


def test_a_project_of_somebody_else(out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither its Makefile nor its ELF is ever run, not even where it is trusted: both would leave a mark."""
    mark = tmp_path / "mark"
    (out / "Makefile").write_text(f"all:\n\ttouch {mark}\n")
    (out / "build" / "mlp.elf").write_text(f"#!/bin/sh\ntouch {mark}\n")
    (out / "build" / "mlp.elf").chmod(0o755)
    of_somebody_else(monkeypatch, tmp_path / "state")
    before = tree(out)
    assert f"{out} was not compiled by you on this computer" in sentence(*infer(out))
    assert tree(out) == before
    assert "accuracy" in succeed(*infer(out, "--trust"))
    assert not mark.exists()
    assert (tmp_path / "state" / "tinytrain" / "key").stat().st_mode & 0o77 == 0, "others can read the key"


def test_an_elf_that_we_did_not_build_is_built_again(out: Path) -> None:
    elf = out / "build" / "mlp.elf"
    good = elf.read_bytes()
    for change in (lambda: elf.write_text("#!/bin/sh\nexit 1\n"), lambda: elf.with_suffix(".seal").write_text("0" * 64), elf.unlink):
        change()
        succeed(*infer(out))
        assert elf.read_bytes() == good


def test_changed_c_is_used_where_it_is_trusted(out: Path) -> None:
    """Also headers that the compiler did not write; without --trust the original is what runs, or nothing."""
    (out / "app" / "main.c").write_text('#include "own.h"\n' + (out / "app" / "main.c").read_text())
    (out / "app" / "own.h").write_text("#error own\n")
    assert f"{out / 'app' / 'main.c'} differs" in sentence(*infer(out))
    assert "own.h:1:" in sentence(*infer(out, "--trust"))
    (out / "app" / "own.h").write_text("/* nothing */\n")
    succeed(*infer(out, "--trust"))


def test_a_header_beside_the_sources_shadows_none(out: Path) -> None:
    """The folder of a source comes before `-iquote lib`: a file of the same name there would be taken."""
    (out / "app" / "tt_types.h").write_text("#error shadow\n")
    shutil.rmtree(out / "build")
    succeed(*infer(out))


def test_make_gives_the_same_firmware(out: Path) -> None:
    ours = (out / "build" / "mlp.elf").read_bytes()
    shutil.rmtree(out / "build")
    done = subprocess.run(["make", "-j2"], cwd=out, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (out / "build" / "mlp.elf").read_bytes() == ours


def test_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    of_somebody_else(monkeypatch, tmp_path)
    first = seal(b"x")
    assert is_sealed(b"x", f"{first}\n".encode()) and not is_sealed(b"y", first.encode()) and not is_sealed(b"x", b"\xff")
    _key.cache_clear()
    assert seal(b"x") == first, "the key is kept"
    (tmp_path / "tinytrain" / "key").write_bytes(b"short")
    _key.cache_clear()
    assert seal(b"x") != first and len((tmp_path / "tinytrain" / "key").read_bytes()) == 32
    (tmp_path / "file").touch()
    of_somebody_else(monkeypatch, tmp_path / "file")
    assert seal(b"x") == seal(b"x"), "where no key can be kept, one holds for this process"
    assert os.listdir(tmp_path / "tinytrain") == ["key"]
