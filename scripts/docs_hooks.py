# SPDX-License-Identifier: Apache-2.0
"""What `make docs` (mkdocs.yml) makes of the pages: README.md is the home page, headers of a compiled model are the reference of C.

A mark of a page, `<!-- README.md -->`, `<!-- lib/model.h -->` or `<!-- Python -->`, stands for what it names.
"""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
MARK = re.compile(r"<!-- (README\.md|Python|lib/[\w.]+) -->")
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
    """Nothing is fetched from elsewhere: the theme would load a script for searching in pages that no server serves."""
    return FETCHED.sub("", output)


def on_post_template(output_content: str, template_name: str, config: Any) -> str:
    """The same of pages that are made from no text."""
    return FETCHED.sub("", output_content)


def readme(name: str) -> str:
    """README.md with links as from docs/."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return re.sub(r"\]\((?!docs/|https:|#)", "](../", text).replace("](docs/", "](")


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
MAKERS = {"README.md": readme, "Python": python}
