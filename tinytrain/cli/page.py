# SPDX-License-Identifier: Apache-2.0
"""`tinytrain page`: compiled projects as one HTML file."""

from __future__ import annotations

from pathlib import Path

import click

from tinytrain.cli.command import Command
from tinytrain.cli.options import option

FOLDERS = click.argument("projects", nargs=-1, required=True, type=click.Path(path_type=Path))
TRUST = option("--trust", is_flag=True, help="Show folders that were not compiled by you on this computer.")


@click.command(cls=Command, epilog="Example: tinytrain page out -o page.html")
@FOLDERS
@option("-o", "--output", type=click.Path(path_type=Path), required=True, help="HTML file to write.")
@TRUST
def page(projects: tuple[Path, ...], output: Path, trust: bool) -> None:
    """Write PROJECTS (folders that `compile` made) as one self-contained HTML page: memory, layers, builds side by side."""
    from tinytrain.atomic import write_text
    from tinytrain.device.project import Project
    from tinytrain.page.writer import page_html
    from tinytrain.report.page import project_json

    text = page_html(project_json([Project.open(folder, trust=trust) for folder in projects]))
    write_text(output, text)
    click.echo(f"page       {output}, {len(text.encode()):,} B")
