# SPDX-License-Identifier: Apache-2.0
"""What `make docs` (mkdocs.yml) makes of the pages: README.md is the home page, headers of a compiled model are the reference of C.

A mark of a page, as `<!-- README.md -->` or `<!-- lib/model.h -->`, stands for what it names.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

ROOT = Path(__file__).resolve().parent.parent
MARK = re.compile(r"<!-- (README\.md|tinytrain|Python|lib/[\w.]+) -->")
OUTSIDE = re.compile(r"\[`?([^\]`]+)`?\]\(\.\./([^)]+)\)")              # a link from docs/ to another folder of the source tree
FETCHED = re.compile(r'<script src="https://[^"]*"></script>')
# of a header: its licence, what includes it, and for which language
FRAME = re.compile(
    r'^/\* SPDX.*\n|^#(?:ifndef \w+_H|define \w+_H|include .*|endif)$|^#ifdef __cplusplus\n(?:extern "C" \{|\})\n#endif$', re.MULTILINE
)
DECLARED = (
    r"^#define (\w+)", r"\(\*(\w+)\)\(void", r"\b(\w+)\((?!\*)", r"^\} (\w+);", r"\} (\w+);$", r"^typedef \w+ (\w+);", r"(\w+)\[\d+\];"
)


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """The page with what its marks stand for, and without links that lead out of docs/."""
    markdown = MARK.sub(lambda mark: MAKERS.get(mark[1], header)(mark[1]), markdown)
    return OUTSIDE.sub(lambda link: f"{link[1]} (`{link[2]}`)" if link[1] != link[2] else f"`{link[2]}`", markdown)


def on_post_page(output: str, page: Any, config: Any) -> str:
    """Nothing is fetched from elsewhere: for search in pages that no server serves the theme would load a script, whose part ours takes."""
    script = (ROOT / "scripts" / "search_from_disk.js").read_text(encoding="utf-8")
    return FETCHED.sub(lambda _: f"<script>{script}</script>", output)


def on_post_template(output_content: str, template_name: str, config: Any) -> str:
    """The same of pages that are made from no text."""
    return on_post_page(output_content, None, config)


def readme(name: str) -> str:
    """README.md with links as from docs/."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return re.sub(r"\]\((?!docs/|https:|#)", "](../", text).replace("](docs/", "](")


def commands(name: str) -> str:
    """The help of the command line and of each command, under its name."""
    from tinytrain.cli.main import main

    return "\n".join(helped(click.Context(main, info_name=name, terminal_width=82, max_content_width=82)))


def helped(context: click.Context) -> Iterator[str]:
    """The section of a command, then those of its own commands."""
    command = context.command
    yield f"## {context.command_path}\n\n```\n{command.get_help(context)}\n```\n"
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            yield from helped(click.Context(inner, context, name))


def python(name: str) -> str:
    """What mkdocstrings is to make of each public name of the package."""
    import tinytrain

    public = [getattr(tinytrain, name) for name in tinytrain.__all__ if not name.startswith("__")]
    return "\n\n".join(f"::: {one.__module__}.{one.__name__}\n    options:\n      heading_level: 2" for one in public)


def header(name: str) -> str:
    """A heading, the comment as text and the declaration for each part of a header of a project; MODEL and model become NAME."""
    text = FRAME.sub("", headers()[name])
    parts = []
    for part in re.split(r"\n\s*\n", re.sub(r"\bmodel_|\bMODEL_", "NAME_", text)):
        found = re.fullmatch(r"\s*(?:/\*(.*?)\*/\s*)?(.*)", part, re.DOTALL)
        assert found is not None
        said, code = re.sub(r"\n \* ?", "\n", (found[1] or "").strip()), found[2].strip()
        if code:
            parts.append(f"### {', '.join(f'`{one}`' for one in names(code)[:3])}\n\n{said}\n\n```c\n{code}\n```\n")
        elif said:
            parts.append(f"{said}\n")
    return "\n".join(parts)


def names(code: str) -> list[str]:
    """What a part of a header declares, the first kind of it that there is."""
    for pattern in DECLARED:
        if found := re.findall(pattern, code, re.MULTILINE):
            return list(dict.fromkeys(found))
    return []


def headers() -> dict[str, str]:
    """Headers of the model that README.md begins with, compiled; made once for a build."""
    if not _HEADERS:
        from tinytrain import zoo
        from tinytrain.compiler import Options, compile_model, write

        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "model.onnx").write_bytes(zoo.model("cnn").SerializeToString())
            write(compile_model(Path(folder) / "model.onnx", Options()), Path(folder) / "out")
            _HEADERS.update({f"lib/{path.name}": path.read_text(encoding="utf-8") for path in Path(folder, "out", "lib").glob("*.h")})
    return _HEADERS


_HEADERS: dict[str, str] = {}
MAKERS = {"README.md": readme, "tinytrain": commands, "Python": python}
