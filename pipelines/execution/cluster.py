"""Dask as an executor: a scheduler that somebody else runs, or a cluster of processes on this machine.

A task is one Dask task, not pure. Its failures come back as values, so that `execute` alone decides what is tried
again; Dask itself moves the tasks of a worker that died to another one (three times, `allowed-failures`).
"""

from __future__ import annotations

import logging
import os
import threading
import uuid
from collections import Counter
from contextlib import suppress
from typing import Any

from pipelines.execution.executors import cores
from pipelines.execution.tasks import Answer, Task, mivos_version, run_task
from stores.errors import ClusterError, UsageError

TIMEOUT = 10  # seconds to reach the scheduler
INSTALL = 'pip install "mivos[cluster]"'
ZARR = {"async.concurrency": 4, "threading.max_workers": 4}  # what zarr advises under Dask
LOST, GO_ON = "the connection to the scheduler was lost", "the same command goes on where this one stopped"
LOOK = 5.0  # seconds until new workers are noticed
AHEAD = 2  # tasks handed over for each worker thread, so that none waits for us
log = logging.getLogger("mivos")


class DaskExecutor:
    """Tasks on the workers of a Dask scheduler.

    Args:
        address: "tcp://host:port", or "local" for a cluster of our own; workers: processes of that.

    Raises:
        ClusterError: Dask is not installed, the scheduler cannot be reached or is of another version.
        UsageError: not an address.
    """

    def __init__(self, address: str, workers: int | None = None) -> None:
        self._dask = _load()
        self._cluster: Any = None
        self._client: Any = None
        self._futures: dict[Any, Task] = {}
        self._run = uuid.uuid4().hex[:8]
        self._count = 0
        self._warned = False
        if address == "local":
            self._start_local(workers or cores())
        elif workers is not None:
            raise UsageError(
                "--workers is for --cluster local; a scheduler has its own workers",
                hint="drop --workers, and start more workers there",
            )
        elif "://" not in address:
            raise UsageError(f"--cluster {address[:80]!r}: is no address", hint="for example tcp://10.0.0.1:8786")
        else:
            self._connect(address)

    def _start_local(self, workers: int) -> None:
        try:
            # each may take a GPU task: whoever asks for several workers wants them to share what there is
            self._cluster = self._dask.LocalCluster(
                n_workers=workers, threads_per_worker=1, processes=True, dashboard_address=None, resources={"GPU": 1},
                memory_limit=0, silence_logs=logging.CRITICAL,
            )  # fmt: skip
            self._connect(self._cluster.scheduler_address)
        except (OSError, RuntimeError, TimeoutError) as error:
            self.close()
            raise ClusterError(
                f"no local cluster could be started: {error}", hint="use --executor processes"
            ) from error

    def _connect(self, address: str) -> None:
        logging.getLogger("distributed").setLevel(logging.CRITICAL)  # what matters is told in our words
        try:
            self._client = self._dask.Client(address, timeout=TIMEOUT, set_as_default=False)
            self._check_versions(address)
        except ClusterError:
            self.close()
            raise
        except Exception as error:  # Dask has no base of its errors: an old scheduler shows itself by many
            self.close()
            raise ClusterError(
                f"the scheduler at {address} cannot be reached: {type(error).__name__}: {error}",
                hint="is `dask scheduler` running there, with the same version of dask?",
            ) from error

    def _check_versions(self, address: str) -> None:
        found = self._client.get_versions()
        here = found["client"]["packages"]
        others = {"the scheduler": found["scheduler"], **{f"worker {k}": v for k, v in found["workers"].items()}}
        for who, facts in others.items():
            packages = (facts or {}).get("packages", {})
            for package in ("distributed", "cloudpickle", "msgpack"):
                if packages.get(package) != here.get(package):
                    raise ClusterError(
                        f"{who} at {address} has {package} {packages.get(package)}, this machine {here.get(package)}",
                        hint="install the same versions everywhere, best the same environment",
                    )

    def slots(self) -> int:
        threads = sum(worker["nthreads"] for worker in self._workers().values())
        return max(1, threads * AHEAD)

    def _workers(self) -> dict[str, Any]:
        try:
            workers: dict[str, Any] = self._client.scheduler_info(n_workers=-1)["workers"]
        except Exception as error:
            raise ClusterError(LOST, hint=GO_ON) from error
        return workers

    def submit(self, task: Task) -> None:
        workers = self._workers()
        offered: Counter[str] = Counter()
        for worker in workers.values():
            offered.update(worker.get("resources", {}))
        lacking = [name for name, amount in task.resources.items() if offered[name] < amount]
        if not self._warned and (lacking or not workers):
            self._warned = True
            what = (
                f"no worker offers {lacking[0]}: start some with --resources {lacking[0]}=1" if workers else "no worker"
            )
            log.warning("the scheduler has %s; tasks wait until there is one", what)
        hosts = Counter(address.rpartition(":")[0] for address in workers)
        self._count += 1
        future = self._client.submit(
            on_worker, task, mivos_version(), dict(hosts), key=f"mivos-{self._run}-{self._count}-{task.stage}",
            pure=False, retries=0, priority=-self._count, resources=dict(task.resources) or None,
        )  # fmt: skip
        self._futures[future] = task

    def wait(self, seconds: float | None) -> list[Answer]:
        try:
            with self._client.as_current():
                limit = LOOK if seconds is None else min(seconds, LOOK)
                over = self._dask.wait(list(self._futures), timeout=limit, return_when="FIRST_COMPLETED").done
        except self._dask.TimeoutError:
            return []
        except self._dask.CancelledError:
            over = {future for future in self._futures if future.done()}
        return [answer for future in over if (answer := self._answer(future)) is not None]

    def _answer(self, future: Any) -> Answer | None:
        """None: its worker died before it could be asked for the answer, and another one makes it again."""
        task = self._futures.pop(future)
        try:
            answer = Answer(**future.result(timeout=TIMEOUT))
            future.release()
            return answer
        except self._dask.KilledWorker as error:
            last = getattr(error.last_worker, "address", error.last_worker)
            return Answer(task.id, "died", error=f"its workers died, the last was {last}")
        except (self._dask.CancelledError, TimeoutError, OSError) as error:
            if isinstance(error, TimeoutError) and self._client.status == "running":
                self._futures[future] = task
                return None
            raise ClusterError(LOST, hint=GO_ON) from error
        except Exception as error:  # of the worker's environment: the task's own come back as answers
            return Answer(
                task.id, "permanent", error=f"a worker cannot run it: {type(error).__name__}: {error}",
                hint="install mivos, the same version, in the workers' environment",
            )  # fmt: skip

    def close(self) -> None:
        """Forget what waits; what a worker of somebody else's scheduler is at, it finishes."""
        client, cluster, self._client, self._cluster = self._client, self._cluster, None, None
        with suppress(Exception):  # the scheduler may be gone
            if client is not None:
                if self._futures:
                    client.cancel(list(self._futures), force=True)
                client.close(timeout=TIMEOUT)
        self._futures.clear()
        with suppress(Exception):
            if cluster is not None:
                cluster.close(timeout=TIMEOUT)


class _Dask:
    """The names of `distributed` that are used, imported late: it is optional and takes a second."""

    def __init__(self) -> None:
        import distributed
        from dask.distributed import CancelledError, KilledWorker

        self.Client, self.LocalCluster, self.wait = distributed.Client, distributed.LocalCluster, distributed.wait
        self.TimeoutError, self.CancelledError, self.KilledWorker = TimeoutError, CancelledError, KilledWorker


def _load() -> _Dask:
    try:
        return _Dask()
    except ImportError as error:
        raise ClusterError(f"the package for Dask is missing ({error.name or error})", hint=INSTALL) from error


# ---- on the workers

_lock = threading.Lock()
_prepared = False


def on_worker(task: Task, version: str, hosts: dict[str, int]) -> dict[str, Any]:
    """Runs a task in a worker; `hosts`: workers by the address of their machine, who share its cores.

    One at a time, however many threads the worker has: networks and what the robot's package knows are per process.
    """
    global _prepared
    with _lock:
        if not _prepared:
            _prepare(hosts)
            _prepared = True
        return run_task(task, version).to_json()


def _prepare(hosts: dict[str, int]) -> None:
    import torch
    import zarr
    from distributed import get_worker

    zarr.config.set(ZARR)
    sharing = hosts.get(get_worker().address.rpartition(":")[0], 1)
    # Dask starts its workers with one thread for numerical libraries, which is meant for tasks that share a process
    asked = int(os.environ.get("MIVOS_THREADS", 0) or 0)
    torch.set_num_threads(asked or max(1, cores() // sharing))
