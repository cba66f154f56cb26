# SPDX-License-Identifier: Apache-2.0
"""`tinytrain page` and `tinytrain open`: compiled projects as one HTML page, in a file or served to this computer's browser."""

from __future__ import annotations

from pathlib import Path

import click

from tinytrain.cli.answer import Answer, show
from tinytrain.cli.command import Command
from tinytrain.cli.options import BAUD, PORT, option
from tinytrain.errors import TinytrainError

FOLDERS = click.argument("projects", nargs=-1, required=True, type=click.Path(path_type=Path))
SWEEP = option("--sweep", type=click.Path(path_type=Path), help="Also show a report of `tinytrain search --sweep`.")
TRUST = option("--trust", is_flag=True,
               help="Take folders that were not compiled by you on this computer: their C is compiled, and `open` runs it.")


@click.command(cls=Command, epilog="Example: tinytrain page out -o page.html")
@FOLDERS
@option("-o", "--output", type=click.Path(path_type=Path), required=True, help="HTML file to write.")
@SWEEP
@TRUST
def page(projects: tuple[Path, ...], output: Path, sweep: Path | None, trust: bool) -> Answer:
    """Write PROJECTS (folders that `compile` made) as one self-contained HTML page: memory, layers, builds side by side."""
    from tinytrain.atomic import write_text
    from tinytrain.cli.results import Written
    from tinytrain.device.project import Project
    from tinytrain.page.writer import page_html
    from tinytrain.report.page import project_json

    text = page_html(project_json([Project.open(folder, trust=trust) for folder in projects], sweep=sweep))
    write_text(output, text)
    return Answer(f"page       {output}, {len(text.encode()):,} B", Written(output))


@click.command("open", cls=Command, epilog="Example: tinytrain open out --port auto")
@FOLDERS
@PORT
@BAUD
@option("--at", type=click.IntRange(0, 65535), default=0, help="TCP port of 127.0.0.1 to listen on; any that is free without it.")
@option("--browser/--no-browser", default=True, show_default=True, help="Show the page in this computer's browser.")
@SWEEP
@TRUST
def open(projects: tuple[Path, ...], port: str | None, baud: int, at: int, browser: bool, sweep: Path | None, trust: bool) -> None:
    """Serve the page of PROJECTS to this computer alone, with a connection to their devices, until Ctrl-C."""
    import webbrowser

    from tinytrain.cli.results import Served
    from tinytrain.device.project import Project
    from tinytrain.page.server import serve

    if port is not None and len(projects) > 1:
        raise TinytrainError(f"--port is the board of one project; {len(projects)} are given.", hint="Name one project, or leave it out.")
    context = click.get_current_context()

    def opened(address: str) -> None:
        show(context, Answer(f"page       {address}\nend it     Ctrl-C", Served(address), asked=True))
        if browser:
            webbrowser.open(address)

    serve([Project.open(folder, trust=trust, port=port, baud=baud) for folder in projects], at, opened, sweep)
