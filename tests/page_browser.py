# SPDX-License-Identifier: Apache-2.0
"""A browser without a window for tests of the page, and what every one of them holds to."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium")
AXE = Path(__file__).parent / "axe" / "node_modules" / "axe-core" / "axe.min.js"
WIDE, NARROW = {"width": 1200, "height": 900}, {"width": 390, "height": 844}
READY = "html[data-ready]"

needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium: apt-get install chromium")


@contextmanager
def browser(*more: str) -> Iterator[Any]:
    """Chromium, to the end of the block; playwright runs an event loop in this thread meanwhile. `more` are arguments of it."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", *more])   # no user names in containers
        try:
            yield started
        finally:
            started.close()


@contextmanager
def shown(started: Any, address: str, **context: Any) -> Iterator[Any]:
    """The page at an address, mounted. It must ask nobody else for anything, and say nothing on the console."""
    with started.new_context(**{"viewport": WIDE, **context}) as alone:
        page = alone.new_page()
        said: list[str] = []
        page.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: said.append(f"error: {error}"))
        page.on("request", lambda request: said.append(f"asks for {request.url[:80]}") if not is_own(request.url, address) else None)
        page.goto(address)
        page.wait_for_selector(READY)
        yield page
        assert not said, said


def is_own(asked: str, address: str) -> bool:
    return asked.split("#")[0] == address.split("#")[0] or asked.startswith(("data:", "blob:"))


def faults(page: Any) -> list[str]:
    """What axe-core finds fault with, by WCAG 2.2 AA and its own best practices."""
    if not AXE.is_file():
        pytest.skip(f"needs axe-core: npm ci --prefix {AXE.parents[2]}")
    page.evaluate(AXE.read_text(encoding="utf-8"))
    found = page.evaluate("axe.run().then((result) => result.violations)")
    return [f"{rule['id']}: {node['html'][:120]} {node['failureSummary']}" for rule in found for node in rule["nodes"]]
