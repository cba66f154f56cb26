# SPDX-License-Identifier: Apache-2.0
"""Jobs: results come as they finish, are kept, and survive the death of workers, here and on a cluster."""

from __future__ import annotations

import atexit
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from dask_cluster import Cluster, local_cluster

from tinytrain import jobs
from tinytrain.errors import DataError, OutputError, ToolError
from tinytrain.jobs import Jobs

TESTS = Path(__file__).resolve().parent


def square(item: int) -> int:
    return item * item


def logged(log: Path, item: int) -> list[int]:
    with log.open("a") as file:
        file.write(f"{item}\n")
    return [item, os.getpid()]


def dies_once(folder: Path, item: int) -> int:
    """The first time that item 3 comes up, its process is killed."""
    mark = folder / "died"
    if item == 3 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return item * item


def dies(item: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return item


def refuses(item: int) -> int:
    if item == 2:
        raise DataError("Item 2 is bad.", hint="Leave it out.")
    return item


def slow(item: int) -> list[int]:
    time.sleep(0.2)
    return [item * item, os.getpid()]


def slowly_logged(log: Path, item: int) -> list[int]:
    slow(item)
    return logged(log, item)


def held(folder: Path, item: int) -> list[int]:
    """The first four that begin go through, the others when the gate is there."""
    with (folder / "begun").open("a") as file:
        file.write(f"{item}\n")
    first = (folder / "begun").read_text().split()[:4]
    while str(item) not in first and not (folder / "gate").exists():
        time.sleep(0.02)
    return [item * item, os.getpid()]


def count_workers(dask_scheduler: Any) -> int:
    return len(dask_scheduler.workers)


def name(item: int) -> str:
    return f"job-{item}"


def test_results_of_all_items() -> None:
    assert dict(Jobs(processes=2).run(square, range(7), name)) == {i: i * i for i in range(7)}
    assert list(Jobs(processes=2).run(square, [], name)) == []
    assert jobs.cores() >= 1


def test_results_are_kept_and_used_again(tmp_path: Path) -> None:
    log, cache = tmp_path / "log", tmp_path / "a" / "cache"
    some = Jobs(processes=1, cache=cache)
    first = dict(some.run(partial(logged, log), [1, 2], name))
    (cache / "job-2.json").write_text("[half a resu")     # as a full disk might leave it
    second = dict(some.run(partial(logged, log), [1, 2, 3], name))
    assert second[1] == first[1]
    assert log.read_text().split() == ["1", "2", "2", "3"]


def test_a_damaged_result_is_computed_again(tmp_path: Path) -> None:
    """Whatever stands in its place, another number above all: it would be taken for the result in silence."""
    log, cache = tmp_path / "log", tmp_path / "cache"
    some = Jobs(processes=1, cache=cache)
    first = dict(some.run(partial(logged, log), [2], name))
    file = cache / "job-2.json"
    good = file.read_bytes()
    assert dict(some.run(partial(logged, log), [2], name)) == first
    for damage in (good.replace(b"[[2,", b"[[3,"), b"[5]", good[:-1], good + b" ", b"\xff" + good, b"[" * 100_000, b""):
        file.write_bytes(damage)
        log.unlink()
        assert dict(some.run(partial(logged, log), [2], name))[2][0] == 2
        assert log.read_text() == "2\n"
        assert len(file.read_bytes()) > 64


def test_a_killed_worker_costs_one_attempt(tmp_path: Path) -> None:
    assert dict(Jobs(processes=2).run(partial(dies_once, tmp_path), range(6), name)) == {i: i * i for i in range(6)}
    assert (tmp_path / "died").exists()


def test_a_job_that_kills_its_workers_is_reported() -> None:
    with pytest.raises(ToolError, match=r"The worker of 7 died 3 times \(signal 9\)"):
        list(Jobs(processes=2).run(dies, [7], name))


def test_an_error_of_a_job_is_an_error_here(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="Item 2 is bad") as error:
        list(Jobs(processes=1, cache=tmp_path).run(refuses, [1, 2, 3], name))
    assert error.value.hint == "Leave it out."
    assert "in refuses" in str(error.value.__cause__)     # where it was raised
    assert [path.name for path in tmp_path.iterdir()] == ["job-1.json"]


def test_stopping_early_ends_the_workers(tmp_path: Path) -> None:
    running = Jobs(processes=2).run(partial(slowly_logged, tmp_path / "log"), range(50), name)
    _, (_, worker) = next(running)
    running.close()  # type: ignore[attr-defined]
    assert len((tmp_path / "log").read_text().split()) < 50
    with pytest.raises(ProcessLookupError):
        os.kill(worker, 0)


def stopped_as_it_leaves(item: int) -> int:
    atexit.register(os.kill, os.getpid(), signal.SIGTERM)
    return item


def test_what_a_worker_cleans_up_is_not_interrupted(capfd: pytest.CaptureFixture[str]) -> None:
    """It leaves when its pipe is closed; the signal to end may come while it does."""
    assert list(Jobs(1).run(stopped_as_it_leaves, [1], name)) == [(1, 1)]
    assert capfd.readouterr().err == ""


def test_ctrl_c_does_not_reach_a_worker_that_still_starts() -> None:
    worker = jobs._Worker(square)
    assert worker.process.pid is not None
    os.kill(worker.process.pid, signal.SIGINT)
    worker.pipe.send(3)
    assert worker.pipe.recv()[0] == 9
    worker.stop()
    worker.gone()


def test_ctrl_c_ends_everything_at_once(tmp_path: Path) -> None:
    code = f"""if True:
        import sys; sys.path.insert(0, {str(TESTS)!r})
        from pathlib import Path; import test_jobs; from tinytrain.jobs import Jobs
        if __name__ == "__main__":
            for _, (_, worker) in Jobs(2, cache=Path("cache")).run(test_jobs.slow, range(100), test_jobs.name): print(worker, flush=True)
    """
    (tmp_path / "many.py").write_text(code)
    process = subprocess.Popen(
        [sys.executable, "many.py"], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        # tests that run in the background are deaf to Ctrl-C, and so would this process be
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stdout is not None
    worker = int(process.stdout.readline())
    os.killpg(process.pid, signal.SIGINT)                 # as a terminal does: to all processes
    _, errors = process.communicate(timeout=300)
    assert "KeyboardInterrupt" in errors
    assert errors.count("Traceback") == 1                 # of the parent; workers go without a word
    with pytest.raises(ProcessLookupError):
        os.kill(worker, 0)
    assert list((tmp_path / "cache").iterdir())


def test_a_cache_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be made"):
        list(Jobs(cache=tmp_path / "file" / "cache").run(square, [1], name))


# --- a cluster ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    pytest.importorskip("distributed")
    with local_cluster(tmp_path_factory.mktemp("cluster")) as started:
        yield started


def test_cluster_gives_the_same_results_and_keeps_them(cluster: Cluster, tmp_path: Path) -> None:
    address, _ = cluster
    assert dict(Jobs(cluster=address, cache=tmp_path).run(square, range(5), name)) == {i: i * i for i in range(5)}
    assert len(list(tmp_path.iterdir())) == 5


def test_cluster_raises_what_a_job_raised(cluster: Cluster) -> None:
    with pytest.raises(DataError, match="Item 2 is bad") as error:
        list(Jobs(cluster=cluster[0]).run(refuses, [1, 2, 3], name))
    assert error.value.hint == "Leave it out."


def test_cluster_of_another_version(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "__version__", "9.9")
    with pytest.raises(ToolError, match=r"have tinytrain .*, here is 9\.9\."):
        list(Jobs(cluster=cluster[0]).run(square, [1], name))


def test_cluster_survives_the_death_of_a_worker(cluster: Cluster, tmp_path: Path) -> None:
    """One worker is left for the tests below."""
    address, workers = cluster
    found, pids = {}, []
    for item, (result, pid) in Jobs(cluster=address).run(partial(held, tmp_path), range(12), name):
        found[item] = result
        pids.append(pid)
        if len(found) == 4:
            next(worker for worker in workers if worker.pid == pid).kill()            # it has begun the next job
            (tmp_path / "gate").touch()
    assert found == {i: i * i for i in range(12)}
    assert len(set(pids)) == 2
    assert pids[-1] != pids[3]


def test_cluster_without_workers(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    address, workers = cluster
    for worker in workers:
        worker.kill()
        worker.wait()
    client = jobs._connected(address)
    while client.run_on_scheduler(count_workers):
        time.sleep(0.05)
    monkeypatch.setattr(jobs, "_connected", lambda address: client)
    monkeypatch.setattr(jobs, "CONNECT_SECONDS", 1)
    with pytest.raises(ToolError, match="has no workers") as error:
        list(Jobs(cluster=address).run(square, [1], name))
    assert error.value.hint == f"Start some: `dask worker {address}`."


def test_no_cluster_there(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("distributed")
    monkeypatch.setattr(jobs, "CONNECT_SECONDS", 1)
    with pytest.raises(ToolError, match=r"No dask scheduler answers at tcp://127\.0\.0\.1:9"):
        list(Jobs(cluster="tcp://127.0.0.1:9").run(square, [1], name))


def test_cluster_needs_a_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ToolError, match="--cluster needs the package") as error:
        list(Jobs(cluster="tcp://127.0.0.1:9").run(square, [1], name))
    assert error.value.hint == "Install it: pip install 'tinytrain[cluster]'."
