# SPDX-License-Identifier: Apache-2.0
"""The host twin: the generated project compiled for this computer."""

from __future__ import annotations

from pathlib import Path

from tinytrain.device.process import ProcessTransport


def start_twin(program: Path) -> ProcessTransport:
    """Run the project's program. It ends by itself when its standard input does."""
    return ProcessTransport("the host twin", [str(program.resolve())])
