# SPDX-License-Identifier: Apache-2.0
"""What an ecosystem expects around a library: each folder of codegen/packages is a kind, its templates are laid out as in the project.

In names of templates NAME stands for the model's name; one that has SOURCE is rendered once for each source file of the library.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tinytrain import __version__
from tinytrain.paths import data_dir

if TYPE_CHECKING:
    from tinytrain.target.board import Board


def package_kinds() -> list[str]:
    """Names of all kinds."""
    return sorted(path.name for path in _folder().iterdir() if path.is_dir())


def package_files(kind: str, board: Board, name: str, sources: Sequence[str], purpose: str) -> dict[str, str]:
    """Relative path → text of what the kind adds to a project whose library has these `sources`; `purpose` is half a sentence."""
    from tinytrain.target.build import LIBRARY_FLAGS, rendered

    values: dict[str, object] = {"name": name, "NAME": name.upper(), "version": __version__, "purpose": purpose}
    values |= {"board": board, "sources": sources, "flags": LIBRARY_FLAGS}
    files = {}
    for template in sorted((_folder() / kind).rglob("*.j2")):
        path = template.relative_to(_folder() / kind).with_suffix("").as_posix()
        for source in sources if "SOURCE" in path else ("",):
            text = rendered(template.relative_to(data_dir("codegen")).as_posix(), {**values, "source": source})
            files[path.replace("NAME", name).replace("SOURCE", source)] = text
    return files


def _folder() -> Path:
    return data_dir("codegen") / "packages"
