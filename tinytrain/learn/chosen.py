# SPDX-License-Identifier: Apache-2.0
"""What a device that chooses among its schemes by itself (`gradient/methods/green.py`) has chosen so far."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tinytrain.ir.choosing import in_turn
from tinytrain.ir.graph import CHOICE
from tinytrain.schemes.scheme import load

if TYPE_CHECKING:
    from tinytrain.device.project import Project
    from tinytrain.device.session import Session


def choices_text(project: Project, session: Session) -> str:
    """One line for people: steps of each scheme since the device began, and which comes next; "" where it does not choose."""
    found = session.get_params(CHOICE)
    if not found:
        return ""
    choice = found[CHOICE]
    names = [load(project.folder / f"scheme{f'_{i}' if i else ''}.toml").preset or f"scheme {i}" for i in range(len(choice) - 2)]
    steps = ", ".join(f"{name} {count:,}" for name, count in zip(names, choice[2:].tolist(), strict=True))
    return f"schemes    {steps} steps; next {names[in_turn(choice)]}"
