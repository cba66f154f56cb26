# SPDX-License-Identifier: Apache-2.0
"""How long the page of a project takes to open in Chromium, and how large it is: MCUNet's sparse update, or projects of your own.

Run it with `make bench-page`. A page counts as open when its first panel is drawn; the quickest of some times, of a file on a disk.
Writes benchmarks/results/page.json where it measured MCUNet, which needs the folder ../shared/data beside the source tree.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import mcunet
from playwright.sync_api import sync_playwright

from tinytrain.atomic import write_text
from tinytrain.device.project import Project
from tinytrain.page.writer import page_html
from tinytrain.report.page import project_json

RESULTS = Path(__file__).parent / "results" / "page.json"
ROUNDS = 7
MOST_MS, MOST_BYTES = 1000, 2_000_000


@dataclass(frozen=True)
class Row:
    """`files_bytes` of the page are the model and its module, which hold the weights."""

    workload: str
    open_ms: float
    page_bytes: int
    files_bytes: int
    browser: str
    command: str = "make bench-page"


def measure(workload: str, projects: Sequence[Project], folder: Path) -> Row:
    shown = project_json(projects)
    file = folder / "page.html"
    file.write_text(page_html(shown), encoding="utf-8")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1200, "height": 900})
        times = []
        for _ in range(ROUNDS):
            page.goto(file.as_uri())
            page.wait_for_selector("html[data-ready]")
            times.append(float(page.evaluate("Number(document.documentElement.dataset.ready)")))
        version = browser.version
        browser.close()
    files = sum(len(data) for build in shown["builds"] for data in build["files"].values())
    return Row(workload, round(min(times), 1), file.stat().st_size, files, f"Chromium {version}")


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("projects", nargs="*", type=Path, help="folders that `tinytrain compile` made; MCUNet without any")
    given = arguments.parse_args().projects
    with tempfile.TemporaryDirectory() as name:
        if given:
            row = measure(" ".join(map(str, given)), [Project.open(folder) for folder in given], Path(name))
        elif mcunet.MODELS.is_dir():
            _, project, _ = mcunet.prepared(Path(name), mcunet.BOARD)
            row = measure("mcunet5fps-10cls-sparse", [project], Path(name))
            write_text(RESULTS, json.dumps([asdict(row)], indent=2) + "\n")
        else:
            print(f"{mcunet.MODELS} is absent: name projects to measure.")
            return
    rest = row.page_bytes - row.files_bytes
    print(f"{row.workload}: opens in {row.open_ms:,.0f} ms ({row.browser}), {row.page_bytes:,} B, of which {rest:,} without weights")
    assert given or (row.open_ms < MOST_MS and rest < MOST_BYTES)


if __name__ == "__main__":
    main()
