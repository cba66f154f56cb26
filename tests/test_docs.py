# SPDX-License-Identifier: Apache-2.0
"""The pages say what is so: their blocks run, their commands and options are there, the site builds and asks nobody for anything."""

from __future__ import annotations

import importlib.util
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from conftest import ROOT
from page_browser import browser, needs_browser
from pages import blocks, run_page

from tinytrain.cli.main import main

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PAGES = ["README.md", *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md")))]
ARM = ("arm-none-eabi-gcc", "qemu-system-arm")
# What a page needs besides a C compiler: modules, programs.
NEEDS: dict[str, tuple[str, ...]] = {
    "README.md": ARM,
    "docs/anomaly.md": ARM,
    "docs/extending.md": ARM,
    "docs/int8.md": ("sklearn", *ARM),
    "docs/keras.md": ("tf2onnx", "tensorflow", "sklearn", *ARM),
    "docs/python.md": ARM,
    "docs/pytorch.md": ("torch", "sklearn", *ARM),
    "docs/sklearn.md": ("skl2onnx", "sklearn", *ARM),
    "docs/sparse.md": ("ortools", "sklearn", *ARM),
    "docs/toml.md": ARM,
}
RUN = [page for page in PAGES if any(block.language in ("sh", "python") for block in blocks(page)) and page != "docs/adding-an-op.md"]


@pytest.mark.parametrize("page", RUN)
def test_page_runs_as_written(page: str, tmp_path: Path) -> None:
    for need in NEEDS.get(page, ()):
        if importlib.util.find_spec(need) is None and shutil.which(need) is None:
            pytest.skip(f"needs {need}")
    run_page(page, tmp_path)


def commands(page: str) -> Iterator[list[str]]:
    """Every call of tinytrain on a page, in blocks and in running text."""
    text = (ROOT / page).read_text(encoding="utf-8")
    spans = re.findall(r"`(tinytrain [^`]+)`", re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL))
    lines = [line for block in blocks(page) for line in block.text.replace("\\\n", " ").splitlines()]
    for line in [*spans, *lines]:
        if line.startswith("tinytrain ") and not line.startswith("tinytrain:"):
            yield shlex.split(" ".join(line.split()), comments=True)[1:]


def options(command: click.Command) -> set[str]:
    return {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)} | {"--help", "-h", "--version"}


def every_command(group: click.Group) -> Iterator[click.Command]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield command
        if isinstance(command, click.Group):
            yield from every_command(command)


@pytest.mark.parametrize("page", PAGES)
def test_toml_is_valid(page: str) -> None:
    for block in blocks(page):
        if block.language == "toml":
            tomllib.loads(block.text)


@pytest.mark.parametrize("page", PAGES)
def test_commands_and_their_options_are_there(page: str) -> None:
    for words in commands(page):
        command: click.Command = main
        while isinstance(command, click.Group) and words and re.fullmatch(r"[a-z][a-z-]+", words[0]):
            found = command.get_command(click.Context(command), words[0])
            assert found is not None, f"{page}: there is no tinytrain {words[0]}"
            command, words = found, words[1:]
        given = {word.partition("=")[0] for word in words if re.match(r"--?[a-z]", word)}
        assert given <= options(command) | options(main), f"{page}: {command.name} has no {sorted(given - options(command))}"


def test_options_named_alone_are_those_of_a_command() -> None:
    known = options(main).union(*map(options, every_command(main)))
    ours = re.compile(r"`(--[a-z][a-z0-9-]+)[ =`]")
    others = {"--targets", "--library", "--no-system", "--update-golden", "--doctest-modules"}                   # of pyOCD, git, ...
    for page in PAGES:
        unknown = set(ours.findall((ROOT / page).read_text(encoding="utf-8"))) - known - others
        assert not unknown, f"{page}: no command has {sorted(unknown)}"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("material", reason="needs the extra docs")
    folder = tmp_path_factory.mktemp("site")
    build = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", str(folder)]
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_site_fetches_nothing(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) >= len(PAGES)
    for path in pages:
        fetched = re.findall(r'(?:src|<link[^>]*href)="?(https?:[^" >]+)', path.read_text(encoding="utf-8"))
        assert not fetched, f"{path.name} fetches {fetched}"


@needs_browser
def test_site_on_a_disk_can_be_searched(site: Path) -> None:
    pytest.importorskip("playwright", reason="needs playwright")
    with browser() as started, started.new_context() as alone:
        page, said = alone.new_page(), []
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto((site / "index.html").as_uri())
        page.click("input.md-search__input")
        page.locator("input.md-search__input").press_sequentially("NAME_autosave")
        page.wait_for_selector("a.md-search-result__link[href*='c-api.html']")
        assert said == []


def test_every_key_of_a_file_has_its_place(tmp_path: Path) -> None:
    from tinytrain import zoo
    from tinytrain.cli.project_file import KEYS
    from tinytrain.compiler import Options, compile_model, describe
    from tinytrain.paths import data_dir
    from tinytrain.target.table import read_toml

    (tmp_path / "model.onnx").write_bytes(zoo.model("mlp").SerializeToString())
    made = describe(compile_model(tmp_path / "model.onnx", Options()))
    named = set(re.findall(r"`([a-z_0-9]+)`", (ROOT / "docs" / "files.md").read_text(encoding="utf-8")))
    assert not (missing := sorted(set(made) - named)), f"docs/files.md lacks {missing}"
    named = set(re.findall(r"`\[?([a-z_0-9]+)\]?`", (ROOT / "docs" / "toml.md").read_text(encoding="utf-8")))
    files = [*data_dir("boards").glob("*/board.toml"), *data_dir("boards").glob("soc/*/soc.toml")]
    known = {key for path in files for key in read_toml(path)}
    known |= set(KEYS)
    assert len(files) > 20 and not (missing := sorted(known - named)), f"docs/toml.md lacks {missing}"
