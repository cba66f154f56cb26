# SPDX-License-Identifier: Apache-2.0
"""Make the pictures of docs/page.md anew: python scripts/screenshots.py PAGE.html [memory, or teach SAMPLES.npz]"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

IMAGES = Path(__file__).resolve().parent.parent / "docs" / "images"
SHOTS = (("wide", 1200, 1000, "light"), ("narrow", 390, 1500, "dark"))


def main(page: Path, tab: str = "memory", samples: str = "") -> None:
    """Both widths of a tab, from its top, into docs/images/page-TAB-….png; of Teach when it has trained with samples."""
    IMAGES.mkdir(exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for name, width, height, scheme in SHOTS:
            shown = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
            shown.goto(f"{page.resolve().as_uri()}#{tab}")
            shown.wait_for_selector("html[data-ready]")
            if samples:
                teach(shown, samples)
            shown.screenshot(path=IMAGES / f"page-{tab}-{name}.png")
        browser.close()


def teach(page: Page, samples: str) -> None:
    """Train, then draw something that the model looks at."""
    page.get_by_label("Add samples of a file").set_input_files(samples)
    page.get_by_label("Epochs").fill("6")
    page.get_by_role("button", name="Train", exact=True).click()
    page.get_by_text("Done: ").wait_for()
    canvas = page.locator("canvas.drawing")
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    assert box is not None
    points = [(0.3, 0.2), (0.7, 0.2), (0.5, 0.5), (0.4, 0.85)]             # a seven
    at = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in points]
    page.mouse.move(*at[0])
    page.mouse.down()
    for point in at[1:]:
        page.mouse.move(*point, steps=6)
    page.mouse.up()
    page.wait_for_timeout(500)
    page.evaluate("scrollTo(0, 0)")


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
