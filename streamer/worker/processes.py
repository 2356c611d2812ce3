"""Several worker processes on one machine: started, watched and stopped together."""

from __future__ import annotations

import multiprocessing
import signal
import sys
from collections.abc import Callable
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess

from streamer.settings import Settings
from streamer.worker.options import WorkerOptions


def run_processes(
    settings: Settings,
    count: int,
    options: WorkerOptions,
    explain: Callable[[Exception], int],
) -> int:
    """Run `count` workers; returns the exit code: of the first that failed, after stopping the others.

    `explain` prints an error of a worker and gives its exit code; it has to be a module's function.
    """
    context = multiprocessing.get_context("spawn")
    workers: list[BaseProcess] = [
        context.Process(target=_work, args=(settings, options, index, explain), name=f"worker-{index}")
        for index in range(count)
    ]
    for worker in workers:
        worker.start()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: _stop(workers))
    running = list(workers)
    failed = 0
    while running:
        wait([worker.sentinel for worker in running])
        ended = [worker for worker in running if not worker.is_alive()]
        for worker in ended:
            running.remove(worker)
            code = worker.exitcode
            if code and not failed:
                failed = code if code > 0 else 1
                _stop(workers)
    return failed


def _stop(workers: list[BaseProcess]) -> None:
    for worker in workers:
        if worker.is_alive():
            worker.terminate()


def _work(
    settings: Settings, options: WorkerOptions, index: int, explain: Callable[[Exception], int]
) -> None:
    from streamer.logs import configure_logging
    from streamer.worker import event_loop
    from streamer.worker.run import end_for_sure, run_worker

    configure_logging(settings.log)
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
