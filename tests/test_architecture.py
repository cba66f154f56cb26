# SPDX-License-Identifier: Apache-2.0
"""The house: folders follow the way of a model, and nobody imports against the stream (docs/architecture.md)."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tinytrain.paths import data_dir

PACKAGE = Path(__file__).resolve().parent.parent / "tinytrain"

# From what everybody may use to what nobody imports. A room may import those in the lines above its own; rooms of one line do not know
# each other. A module named here is a room of its own.
STREAM = (
    ("", "errors", "paths", "random"),
    ("reading", "seal", "zoo"),
    ("atomic", "origins"),
    ("jobs", "ir"),
    ("ops", "data", "onnx_graph"),
    ("verify.reference", "planner", "schemes", "target"),
    ("gradient",),
    ("passes",),
    ("frontend", "emit"),
    ("compiler", "device"),
    ("report",),
    ("learn", "quantise", "verify", "page"),
    ("search", "tune"),
    ("answers",),
    ("api",),
    ("cli",),
    ("__main__",),
)
RANK = {room: rank for rank, rooms in enumerate(STREAM) for room in rooms}


def room_of(module: str) -> str:
    """The room of `tinytrain.frontend.call`: its folder, or the module itself where STREAM names it."""
    inside = module.removeprefix("tinytrain").removeprefix(".")
    return inside if inside in RANK else inside.partition(".")[0]


def module_of(path: Path) -> str:
    parts = ("tinytrain", *path.relative_to(PACKAGE).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for path in sorted(PACKAGE.rglob("*.py")) if "_data" not in path.parts}


def imports(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """(line, module) of every import of our own: at the top, inside functions, for types only."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names if alias.name.partition(".")[0] == "tinytrain")
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: an import that does not say from where"
            if (node.module or "").partition(".")[0] == "tinytrain":
                for alias in node.names:
                    inner = f"{node.module}.{alias.name}"
                    yield node.lineno, inner if inner in MODULES else str(node.module)


def for_types_only(tree: ast.AST) -> set[int]:
    """Lines of what does not run."""
    tests = [node for node in ast.walk(tree) if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)]
    return {line for node in tests for inner in node.body for line in range(inner.lineno, (inner.end_lineno or inner.lineno) + 1)}


@pytest.mark.parametrize("module", MODULES)
def test_nobody_imports_against_the_stream(module: str) -> None:
    here = room_of(module)
    assert here in RANK, f"{module} is in no room: name its folder in STREAM and in docs/architecture.md"
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    # what a program gets from the package itself is imported when it asks for it
    free = for_types_only(tree) if module == "tinytrain" else set()
    for line, name in imports(tree):
        if line in free:
            continue
        there = room_of(name)
        assert there == here or RANK[there] < RANK[here], f"{module}, line {line}: {here or 'tinytrain'} imports {name}, which is above it"


def test_no_circle_of_modules() -> None:
    """Of imports that run; within a folder two modules may name each other's types."""
    graph = {}
    for module, path in MODULES.items():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        typed = for_types_only(tree)
        graph[module] = {name for line, name in imports(tree) if line not in typed and name in MODULES}
    done: set[str] = set()

    def visit(module: str, way: tuple[str, ...]) -> None:
        assert module not in way, f"a circle: {' → '.join((*way[way.index(module):], module))}"
        if module not in done:
            for name in sorted(graph[module] - {module}):
                visit(name, (*way, module))
            done.add(module)

    for module in sorted(graph):
        visit(module, ())


def test_commands_do_not_import_each_other() -> None:
    names = ("answer", "command", "data_options", "model_options", "option", "options", "project_file", "results")
    shared = {"tinytrain.cli", *(f"tinytrain.cli.{name}" for name in names)}
    commands = {name for name in MODULES if room_of(name) == "cli"} - shared
    for module in commands:
        used = {name for _, name in imports(ast.parse(MODULES[module].read_text(encoding="utf-8")))}
        assert not used & commands, f"{module} imports {used & commands}"


def test_architecture_page_names_every_room() -> None:
    page = (PACKAGE.parent / "docs" / "architecture.md").read_text(encoding="utf-8")
    folders = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    missing = [room for room in RANK if room and f"`{room.replace('.', '/')}" not in page]
    assert not missing and folders <= set(RANK), f"not in docs/architecture.md: {missing}; in no room: {folders - set(RANK)}"


def test_assembly_keeps_what_it_changes_apart_from_what_it_reads() -> None:
    """A compiler may give two operands of one value one register, unless what changes is marked as written early (`&`)."""
    sources = [*data_dir("runtime_c").glob("*.[ch]"), *data_dir("codegen").rglob("*.j2")]
    blocks = [(path.name, block) for path in sources for block in re.findall(r"__asm[^;]*;", path.read_text(encoding="utf-8"))]
    assert len(blocks) > 100
    pinned = ("call %[tile]", "call tt_outer", "cmp %[w], %[end]")        # in registers of their own; never equal before the last turn
    assert [(name, block) for name, block in blocks if re.search(r'"\+r"\([^;]*"r"\(', block) and not any(p in block for p in pinned)] == []
