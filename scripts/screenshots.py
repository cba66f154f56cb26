# SPDX-License-Identifier: Apache-2.0
"""Make the pictures of docs/page.md anew: python scripts/screenshots.py PAGE.html [tab]"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

IMAGES = Path(__file__).resolve().parent.parent / "docs" / "images"
SHOTS = (("wide", 1200, 1000, "light"), ("narrow", 390, 1500, "dark"))


def main(page: Path, tab: str = "memory") -> None:
    """Both widths of a tab, from its top, into docs/images/page-TAB-….png."""
    IMAGES.mkdir(exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for name, width, height, scheme in SHOTS:
            shown = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
            shown.goto(f"{page.resolve().as_uri()}#{tab}")
            shown.wait_for_selector("html[data-ready]")
            shown.screenshot(path=IMAGES / f"page-{tab}-{name}.png")
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
