# SPDX-License-Identifier: Apache-2.0
"""The page as one HTML file: what it shows as JSON, its modules as text, its style. It asks nothing of any network.

A module imports others as `"./name.js"`, as Node does too; `loader.js` gives each an address in the page.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

STATIC = Path(__file__).with_name("static")
NAMED = re.compile(r'"\./([\w-]+\.js)"')                   # as loader.js has it
_ENDS_SCRIPT = re.compile(r"</script|<!--", re.IGNORECASE)


def page_html(project: Mapping[str, Any], *, socket: str | None = None) -> str:
    """The page of a project (`report.page.project_json`); `socket` is the address that it may connect to besides, ws://HOST:PORT.

    The policy in its head forbids everything else: other scripts, and any connection.
    """
    loader, style = _text("loader.js"), _text("style.css")
    connects = f"blob: data: {socket}" if socket else "blob: data:"
    policy = {
        "default-src": "'none'", "script-src": f"{_hash(loader)} blob: data: 'wasm-unsafe-eval'", "worker-src": "data:",
        "style-src": _hash(style), "img-src": "blob: data:", "media-src": "blob:", "connect-src": connects,
        "base-uri": "'none'", "form-action": "'none'",
    }
    names = ", ".join(dict.fromkeys(build["manifest"]["name"] for build in project["builds"]))
    parts = {
        "policy": "; ".join(f"{key} {value}" for key, value in policy.items()),
        "title": escape(f"{names} · tinytrain"),
        "style": style,
        # a name of the model that has </script> in it ends no script so
        "project": json.dumps(project, separators=(",", ":"), ensure_ascii=False, allow_nan=False).replace("<", "\\u003c"),
        "modules": "\n".join(f'<script type="text/plain" data-module="{name}">\n{text}</script>' for name, text in modules().items()),
        "loader": loader,
    }
    return re.sub(r"\{\{ (\w+) \}\}", lambda found: parts[found[1]], _text("index.html"))


def modules() -> dict[str, str]:
    """The text of shell.js and of all that it reaches, by name."""
    found: dict[str, str] = {}
    waiting = ["shell.js"]
    while waiting:
        if (name := waiting.pop()) not in found:
            found[name] = _text(name)
            assert not _ENDS_SCRIPT.search(found[name]), f"{name} has an end of a script in it"
            waiting += NAMED.findall(found[name])
    return dict(sorted(found.items()))


def _text(name: str) -> str:
    return (STATIC / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
