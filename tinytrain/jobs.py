# SPDX-License-Identifier: Apache-2.0
"""Many independent jobs: on the cores of this machine or on a cluster, with results kept on disk.

    for item, result in Jobs(cache=folder).run(partial(measure, workload), items, key): ...

What the jobs have in common goes into the `partial`: it is sent once to each worker. Nothing else reaches a worker, no file of this
machine either.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
import traceback
import uuid
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from tinytrain import __version__
from tinytrain.atomic import write_text
from tinytrain.errors import OutputError, ToolError
from tinytrain.reading import read_limited

if TYPE_CHECKING:
    from distributed import Client

Item = TypeVar("Item", bound=Hashable)
Result = TypeVar("Result")

ATTEMPTS = 3                                              # of a job whose worker dies
CONNECT_SECONDS = 30
STOP_SECONDS = 5
MOST_BYTES = 100_000_000                                  # of one result in the cache


@dataclass(frozen=True)
class Jobs:
    """Where jobs run and where their results are kept: `processes` of this machine (None: one a core), or the dask `cluster` with
    this address; `cache` is a folder of results by key, or None.
    """

    processes: int | None = None
    cluster: str | None = None
    cache: Path | None = None

    def run(self, function: Callable[[Item], Result], items: Sequence[Item], key: Callable[[Item], str]) -> Iterator[tuple[Item, Result]]:
        """(item, function(item)) as they finish, those of the cache first. All items are different.

        The function and items are picklable, results are JSON. `key` is a file name that stands for everything the result
        depends on. A result is in the cache before it is yielded: whoever stops or is killed loses what runs at that moment. A job whose
        worker dies is tried again. An exception of the function is raised here and ends the other jobs; a job whose
        workers died three times and a cluster that is away raise ToolError.
        """
        if self.cache is not None:
            try:
                self.cache.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise OutputError(f"{self.cache} cannot be made: {error.strerror}.", hint="Choose another --cache.") from error
        left = []
        for item in items:
            found = self._kept(key(item))
            if found is None:
                left.append(item)
            else:
                yield item, cast(Result, found[0])
        jobs = _on_cluster(self.cluster, function, left) if self.cluster else _here(self.processes or cores(), function, left)
        for item, result in jobs:
            if self.cache is not None:
                text = json.dumps([result])
                write_text(self.cache / f"{key(item)}.json", f"{text}\n{_sum(text)}\n")
            yield item, result

    def _kept(self, key: str) -> list[Any] | None:
        """[result] from the cache; None where it is not there or is not what was written."""
        if self.cache is not None:
            with suppress(OutputError, ValueError):
                kept = read_limited(self.cache / f"{key}.json", MOST_BYTES, "a result", OutputError).decode("utf-8")
                text, _, check = kept.partition("\n")
                if check == f"{_sum(text)}\n":
                    return cast(list[Any], json.loads(text))
        return None


def _sum(text: str) -> str:
    """What tells a damaged result: it would be taken for another one in silence."""
    return sha256(text.encode("utf-8")).hexdigest()


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Remote(Exception):
    """The traceback of an exception in another process, as the cause of that exception here."""

    def __str__(self) -> str:
        return "\n" + str(self.args[0])


class _Worker:
    """A process that takes items and gives back results through a pipe; a pipe of its own tells at once which worker died."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        # a forked process would share locks and sockets with this one
        context = multiprocessing.get_context("spawn")
        self.pipe, end = context.Pipe()
        self.process = context.Process(target=_work, args=(function, end), daemon=True)
        # Ctrl-C waits: a process on its way to being deaf to it would print a traceback. The tracker unblocks it when it starts
        resource_tracker.ensure_running()
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            self.process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        end.close()

    def stop(self) -> None:
        self.pipe.close()
        self.process.terminate()

    def gone(self) -> int:
        """Wait for the end; its exit code, negative for a signal."""
        self.process.join(STOP_SECONDS)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        self.pipe.close()
        return self.process.exitcode or 0


def _work(function: Callable[[Any], Any], pipe: Connection) -> None:
    """Body of a worker. It ends with the pipe, so that it does not outlive the process at the other end by more than one job."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)          # Ctrl-C reaches all processes of a terminal; the first of them ends the others
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    signal.signal(signal.SIGTERM, _leave)                 # so that what it made (temporary folders, twins) goes
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            item = pipe.recv()
            answer: tuple[Any, Exception | None, str]     # result, or an exception and its traceback
            try:
                answer = function(item), None, ""
            except Exception as error:
                answer = None, error, traceback.format_exc()
            pipe.send(answer)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)         # it leaves by itself: nothing interrupts what is cleaned up then


def _leave(number: int, frame: object) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit(1)


def _here(processes: int, function: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[tuple[Item, Result]]:
    waiting = deque((item, 1) for item in items)
    idle: list[_Worker] = []
    busy: dict[Any, tuple[_Worker, Item, int]] = {}       # pipe -> who does what there, and the number of this attempt
    try:
        while waiting or busy:
            while waiting and len(busy) < processes:
                worker = idle.pop() if idle else _Worker(function)
                item, attempt = waiting.popleft()
                busy[worker.pipe] = worker, item, attempt
                with suppress(BrokenPipeError):           # it died while it was idle: told below, where its answer is awaited
                    worker.pipe.send(item)
            for pipe in wait(list(busy)):
                worker, item, attempt = busy[pipe]
                try:
                    result, error, trace = worker.pipe.recv()
                except (EOFError, ConnectionResetError):
                    del busy[pipe]
                    code = worker.gone()
                    if attempt == ATTEMPTS:
                        raise _died(item, f"exit code {code}" if code >= 0 else f"signal {-code}") from None
                    waiting.appendleft((item, attempt + 1))               # next: where nothing works, that is said soon
                    continue
                del busy[pipe]
                idle.append(worker)
                if error is not None:
                    raise error from _Remote(trace)
                yield item, result
    finally:
        workers = [*idle, *(worker for worker, _, _ in busy.values())]
        for worker in workers:
            worker.stop()
        for worker in workers:
            worker.gone()


def _died(item: object, how: str) -> ToolError:
    return ToolError(
        f"The worker of {item} died {ATTEMPTS} times ({how}).",
        hint="Is there enough memory? Try fewer processes (--jobs 1). What is finished is kept: start it again to go on.",
    )


def _on_cluster(address: str, function: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[tuple[Item, Result]]:
    """The scheduler holds the function with its data as a task of its own: whichever worker dies, another one can have it again."""
    if not items:
        return
    try:
        import distributed
    except ImportError:
        raise ToolError("--cluster needs the package dask.distributed.", hint="Install it: pip install 'tinytrain[cluster]'.") from None
    with _connected(address) as client:
        _check_workers(client, address)
        run = uuid.uuid4().hex                            # keys of other runs, that may have failed, are not those of this one
        common = client.submit(_same, function, key=f"tinytrain-{run}", pure=False)
        futures = {
            client.submit(_call, common, item, key=f"tinytrain-{run}-{number}", pure=False): item for number, item in enumerate(items)
        }
        try:
            for future in distributed.as_completed(futures, loop=client.loop):
                try:
                    yield futures[future], future.result()
                except distributed.KilledWorker:
                    raise _died(futures[future], "on the cluster") from None
                except (distributed.CancelledError, distributed.client.FutureCancelledError):
                    message = f"The cluster at {address} dropped its jobs: its scheduler ended or was started again."
                    raise ToolError(message, hint="What is finished is kept: start it again to go on.") from None
        finally:
            with suppress(Exception):                     # nothing more can be done about a cluster that is away
                client.cancel([common, *futures], force=True)


def _connected(address: str) -> Client:
    from distributed import Client

    try:
        return Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
    except (OSError, ValueError) as error:
        message = f"No dask scheduler answers at {address}: {str(error).splitlines()[0] if str(error) else type(error).__name__}."
        raise ToolError(message, hint="Start one (`dask scheduler`, then `dask worker tcp://...` elsewhere), or check --cluster.") from None


def _check_workers(client: Client, address: str) -> None:
    """Raises ToolError where there is no worker, or one without this version of tinytrain."""
    from distributed import TimeoutError as Late

    try:
        client.wait_for_workers(1, timeout=CONNECT_SECONDS)
    except Late:                                          # until Python 3.10 not the built-in TimeoutError
        raise ToolError(f"The cluster at {address} has no workers.", hint=f"Start some: `dask worker {address}`.") from None
    answers = list(client.run(_version, on_error="return").values())
    if failed := [answer for answer in answers if isinstance(answer, Exception)]:
        message = f"A worker of the cluster at {address} cannot import tinytrain: {failed[0]}."
        raise ToolError(message, hint=f"Install tinytrain {__version__} where the workers run.")
    if set(answers) != {__version__}:
        message = f"The workers of the cluster at {address} have tinytrain {', '.join(sorted(set(answers)))}, here is {__version__}."
        raise ToolError(message, hint="Install the same version everywhere.")


def _version() -> str:
    return __version__


def _same(function: Callable[[Item], Result]) -> Callable[[Item], Result]:
    return function


def _call(function: Callable[[Item], Result], item: Item) -> Result:
    return function(item)
