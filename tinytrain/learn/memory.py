# SPDX-License-Identifier: Apache-2.0
"""Samples of the old world into the memory of a device, before it learns the new one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tinytrain.data.dataset import Dataset
from tinytrain.data.given import Source
from tinytrain.device.project import Project
from tinytrain.errors import DataError
from tinytrain.learn.samples import load_with_targets
from tinytrain.report.live import Progress

if TYPE_CHECKING:
    from tinytrain.device.session import Session


def load_old(project: Project, source: Source, progress: Progress, classes: Sequence[str] | None) -> Dataset:
    """What is to be remembered. Raises DataError where the project has no memory, or the samples no targets."""
    if not project.manifest.memory:
        message = f"{project.folder} was compiled without a memory, so there is nothing that could remember {source}."
        raise DataError(message, hint="Compile it with --replay, as --replay 64, or leave out --remember.")
    return load_with_targets(project, source, "train", None, progress, classes)


def remember(session: Session, samples: Dataset, progress: Progress) -> None:
    """Show each sample to the device's memory once; nothing is learned."""
    assert samples.y is not None
    progress.start("remembering", len(samples))
    for x, target in zip(samples.x, samples.y, strict=True):
        session.remember(x, target)
        progress.advance("")
