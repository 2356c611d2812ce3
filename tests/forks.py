"""Processes of `streamer` that begin as copies of one which has imported what they import.

The tests start hundreds of them, and at their start nothing takes as long as importing. They are processes of
their own in all else: arguments, environment, streams, signals, exit codes. `make chaos` and the tests of the
tutorial and the compose file start theirs from nothing, as users do.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import runpy
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import types
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

from streamer.schemas import build

ROOT = Path(__file__).parents[1]
MAIN = "from streamer.cli import main; main()"
IMPORTED = (
    *(
        f"streamer.cli.{name}"
        for name in ("doctor", "erase", "replay", "serve", "sink", "subscribe", "topics", "verify", "worker")
    ),
    "streamer.kafka.topics",
    "streamer.registry.lookup",
    "streamer.worker.app",
    "streamer.worker.http",
)
"""Not onnxruntime: it has a thread once it is imported, and a copy has none of its original's."""
READ_AT_THE_START = ("PYTHON", "LANG", "LC_", "LD_", "MALLOC_", "OMP_", build.NO_EXTENSIONS)
"""What an interpreter or a library looks at but once: with other values a copy would be no such process."""


class Forked:
    """The part of `subprocess.Popen` that the tests use, for a copy."""

    def __init__(self, pid: int, status: int, stderr: IO[str] | None) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self.stderr = stderr
        self._status = status

    def poll(self) -> int | None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            with selectors.DefaultSelector() as selector:
                selector.register(self._status, selectors.EVENT_READ)
                if not selector.select(timeout):
                    raise subprocess.TimeoutExpired(str(self.pid), timeout or 0)
            self.returncode = os.waitstatus_to_exitcode(int(os.read(self._status, 64)))
            os.close(self._status)
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)


class ForkServer:
    """Starts copies of a process that is made at the first start."""

    def __init__(self) -> None:
        self._control: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def start(
        self,
        arguments: Sequence[str],
        environ: Mapping[str, str],
        cwd: Path | None,
        streams: tuple[int, int, int],
    ) -> tuple[int, int]:
        """`python ARGUMENTS`. Its pid, and a file descriptor that has its status once it has ended."""
        if self._control is None:
            self._control, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            program = [sys.executable, "-c", f"from tests.forks import copies; copies({other.fileno()})"]
            self._process = subprocess.Popen(
                program, cwd=ROOT, pass_fds=[other.fileno()], stdin=subprocess.DEVNULL
            )
            other.close()
        status, its_status = os.pipe()
        request = json.dumps([[*arguments], {**environ}, str(cwd or Path.cwd())]).encode()
        socket.send_fds(self._control, [request], [*streams, its_status])
        os.close(its_status)
        return int(self._control.recv(64)), status

    def close(self) -> None:
        if self._control is not None and self._process is not None:
            self._control.close()
            self._process.wait(20)
            self._control = None


_server: ForkServer | None = None


@contextlib.contextmanager
def fork_server() -> Iterator[None]:
    """Within, `started` and `run` copy where they can."""
    global _server
    _server = ForkServer()
    try:
        yield
    finally:
        _server.close()
        _server = None


def started(program: Sequence[str], environ: Mapping[str, str]) -> Forked | subprocess.Popen[str]:
    """`python PROGRAM` with this environment, its standard error a pipe of text, no output."""
    if not _is_copy(environ):
        return subprocess.Popen(
            [sys.executable, *program],
            env=environ,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert _server is not None
    errors, its_errors = os.pipe()
    with Path(os.devnull).open("r+b") as nothing:
        pid, status = _server.start(program, environ, None, (nothing.fileno(), nothing.fileno(), its_errors))
    os.close(its_errors)
    return Forked(pid, status, os.fdopen(errors))


def run(
    program: Sequence[str],
    environ: Mapping[str, str],
    cwd: Path | None,
    stdin: str = "",
    timeout_s: float = 60,
) -> subprocess.CompletedProcess[str]:
    """As `subprocess.run` of `python PROGRAM`, with what it wrote as text."""
    if not _is_copy(environ):
        command = [sys.executable, *program]
        return subprocess.run(
            command,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            cwd=cwd,
            env=environ,
            check=False,
        )
    assert _server is not None
    with contextlib.ExitStack() as files:
        given, out, errors = (files.enter_context(tempfile.TemporaryFile("w+")) for _ in range(3))
        given.write(stdin)
        given.seek(0)
        streams = (given.fileno(), out.fileno(), errors.fileno())
        process = Forked(*_server.start(program, environ, cwd, streams), None)
        try:
            code = process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise
        written = []
        for file in (out, errors):
            file.seek(0)
            written.append(file.read())
    return subprocess.CompletedProcess([sys.executable, *program], code, *written)


def _is_copy(environ: Mapping[str, str]) -> bool:
    return _server is not None and _read_at_the_start(environ) == _read_at_the_start(os.environ)


def _read_at_the_start(environ: Mapping[str, str]) -> dict[str, str]:
    return {
        name: value
        for name, value in environ.items()
        if name.startswith(READ_AT_THE_START) and (name, value) != ("PYTHONPATH", str(ROOT))
    }


class _Copy(NamedTuple):
    pid: int
    status: int


def copies(control_fd: int) -> None:
    """In the process that is copied: fork for each request. Ends with the tests, or as one of the copies."""
    for module in IMPORTED:
        importlib.import_module(module)
    control = socket.socket(fileno=control_fd)
    selector = selectors.DefaultSelector()
    selector.register(control, selectors.EVENT_READ)
    while True:
        for key, _ in selector.select():
            if isinstance(key.data, _Copy):
                _, status = os.waitpid(key.data.pid, 0)
                os.write(key.data.status, b"%d" % status)
                selector.unregister(key.fd)
                os.close(key.fd)
                os.close(key.data.status)
                continue
            request, fds, _, _ = socket.recv_fds(control, 1 << 20, 4)
            if not request:
                return
            pid = os.fork()
            if pid == 0:
                for each in selector.get_map().values():
                    os.close(each.fd)
                    if isinstance(each.data, _Copy):
                        os.close(each.data.status)
                _become(*json.loads(request), fds)
                return
            control.send(b"%d" % pid)
            *streams, status = fds
            for fd in streams:
                os.close(fd)
            selector.register(os.pidfd_open(pid), selectors.EVENT_READ, _Copy(pid, status))


def _become(arguments: list[str], environ: dict[str, str], cwd: str, fds: list[int]) -> None:
    """Be `python ARGUMENTS`, which are `-c CODE ...` or a file."""
    *streams, status = fds
    os.close(status)
    for number, fd in enumerate(streams):
        os.dup2(fd, number)
        os.close(fd)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environ)
    if arguments[0] == "-c":
        sys.argv = ["-c", *arguments[2:]]
        main: Any = types.ModuleType("__main__")
        sys.modules["__main__"] = main
        exec(arguments[1], main.__dict__)
    else:
        sys.argv = [*arguments]
        runpy.run_path(arguments[0], run_name="__main__")
