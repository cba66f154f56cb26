# SPDX-License-Identifier: Apache-2.0
"""TOML files about the layers of a model, from anywhere: read within limits."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from tinytrain.errors import SchemeError
from tinytrain.reading import first_line, read_limited, reading

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

MOST_BYTES = 1_000_000
MOST_DOTS = 100                                           # in a line: the time of TOML's parser grows with their square and more


def read_toml(path: Path, expected: str, hint: str) -> dict[str, Any]:
    """Raises SchemeError where there is no file, or none of TOML, or one that is larger than any model needs."""
    content = read_limited(path, MOST_BYTES, expected, SchemeError)
    with reading(path, expected, SchemeError, hint):
        text = content.decode("utf-8-sig")
        if max(row.count(".") for row in text.split("\n")) > MOST_DOTS:
            raise SchemeError(f"{path}: a line holds more than {MOST_DOTS} dots; expected names of layers and numbers.", hint=hint)
        try:
            return tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise SchemeError(f"{path}: is not valid TOML: {first_line(error)}.", hint=hint) from error
