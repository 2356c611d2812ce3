"""Several worker processes on one machine: started, watched and stopped together."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess

from streamer.errors import StreamerError
from streamer.settings import Settings
from streamer.worker.options import WorkerOptions


class WorkerProcessError(StreamerError):
    """One of the processes failed, so the others were stopped; with its exit code."""

    def __init__(self, failed: BaseProcess) -> None:
        code = failed.exitcode or 1
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        super().__init__(
            f"{failed.name} {how}, so the other processes were stopped too; start the worker again"
        )
        self.exit_code = max(code, 1)


def run_processes(
    settings: Settings,
    count: int,
    options: WorkerOptions,
    explain: Callable[[Exception], int],
) -> int:
    """Run `count` workers until they end, or a signal ends them; returns the highest of their exit codes.

    Raises WorkerProcessError. `explain` prints an error of a worker and gives its exit code; it has to be a
    module's function.
    """
    context = multiprocessing.get_context("spawn")
    workers: list[BaseProcess] = [
        context.Process(
            target=_work, args=(settings, options, index, explain), name=f"worker process {index}"
        )
        for index in range(count)
    ]
    stopped = threading.Event()

    def stop(*_: object) -> None:
        stopped.set()
        _stop(workers)

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        return _run(workers, stopped)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _run(workers: list[BaseProcess], stopped: threading.Event) -> int:
    for worker in workers:
        worker.start()
    if stopped.is_set():  # while they were being started
        _stop(workers)
    running, failed = list(workers), None
    while running:
        wait([worker.sentinel for worker in running])
        for worker in [worker for worker in running if not worker.is_alive()]:
            running.remove(worker)
            if worker.exitcode and failed is None and not stopped.is_set():
                failed = worker
                _stop(workers)
    if failed is not None:
        raise WorkerProcessError(failed)
    codes = [worker.exitcode or 0 for worker in workers]
    return max(code if code >= 0 else 1 for code in codes)


def _stop(workers: list[BaseProcess]) -> None:
    for worker in workers:
        if worker.is_alive():
            worker.terminate()


def _end_with_parent() -> None:
    """A parent that is killed can't stop its processes: each stops by itself then."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os.kill(os.getpid(), signal.SIGTERM)


def _work(
    settings: Settings, options: WorkerOptions, index: int, explain: Callable[[Exception], int]
) -> None:
    from streamer.logs import configure_logging
    from streamer.worker import event_loop
    from streamer.worker.run import end_for_sure, run_worker

    configure_logging(settings.log)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    instance, port = settings.app.instance_id, settings.worker.metrics_port
    if port:
        worker = settings.worker.model_copy(update={"metrics_port": port + index})
        settings = settings.model_copy(update={"worker": worker})
    try:
        event_loop.run(
            run_worker(
                settings,
                options=options,
                instance_id=f"{instance}-{index}" if instance else None,
                on_stopping=end_for_sure,
            ),
            settings.kafka,
        )
    except Exception as error:
        sys.exit(explain(error))
