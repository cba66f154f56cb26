# SPDX-License-Identifier: Apache-2.0
"""A dask cluster on this machine for tests: a scheduler and two workers, whose processes a test may kill."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

Cluster = tuple[str, list[subprocess.Popen[bytes]]]       # address of the scheduler; the workers
TESTS = Path(__file__).resolve().parent


def address_in(file: Path) -> str | None:
    """What the scheduler wrote; None while it has not, or not all of it."""
    try:
        return str(json.loads(file.read_text())["address"])
    except (OSError, ValueError):
        return None


@contextmanager
def local_cluster(home: Path) -> Iterator[Cluster]:
    """Each process has a folder of its own under `home`, also for temporary files; workers can import the modules of the tests."""
    from distributed import Client

    started: list[subprocess.Popen[bytes]] = []

    def start(what: str, *arguments: str) -> subprocess.Popen[bytes]:
        folder = home / f"{what}-{len(started)}"
        folder.mkdir()
        command = [sys.executable, "-m", f"distributed.cli.dask_{what}", "--no-dashboard", "--host", "127.0.0.1", *arguments]
        environment = {**os.environ, "PYTHONPATH": str(TESTS), "TMPDIR": str(folder)}
        process = subprocess.Popen(command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        started.append(process)
        return process

    try:
        file = home / "scheduler.json"
        start("scheduler", "--port", "0", "--scheduler-file", str(file))
        deadline = time.monotonic() + 300
        while not (address := address_in(file)) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert address is not None, "the scheduler has not started"
        workers = [start("worker", address, "--nthreads", "1", "--no-nanny") for _ in range(2)]
        with Client(address, set_as_default=False) as client:
            client.wait_for_workers(2, timeout=300)
        yield address, workers
    finally:
        for process in started:
            process.kill()
            process.wait()
