"""Real Python processes that have their imports behind them.

A server imports torch, transformers, Hydra and the rooms of evoprompt once and forks for every command. What it forks
has its own pid, session, environment, folder, pipes, signals and exit status, and goes on where `python -m module` or
`python file` would.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import importlib
import json
import os
import pkgutil
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

REPOSITORY = Path(__file__).parents[1]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(REPOSITORY), "JE_ARROW_MALLOC_CONF": "background_thread:false"}
"""Of the server: that of the suite's beginning, whatever a test has changed by the time of its first command."""
READY = b"ready"
PATIENCE = 300  # seconds for a server's imports
IMPORTED = (
    *("torch", "transformers.models.llama.modeling_llama", "transformers.models.auto.tokenization_auto", "hydra.main"),
    *("pandas", "pyarrow.parquet", "scipy.optimize", "scipy.stats", "rich.table", "jinja2", "uvicorn"),
    *("matplotlib.figure", "matplotlib.backends.backend_svg", "matplotlib.backends.backend_agg"),
)
ROOMS = (
    *("optim", "surveys", "llm", "prompts", "parallel", "objectives", "experts"),
    *("routing", "study", "report", "preflight", "serving", "commands"),
)
READ_AT_IMPORT = (
    *("CUDA_", "HF_", "HOME", "LANG", "LC_", "MKL_", "MPL", "OMP_", "OPENBLAS_"),
    *("PYTHON", "TORCH", "TRANSFORMERS_", "XDG_"),
)
READ_LATER = ("PYTHONPATH", "PYTHONBREAKPOINT", "TORCHINDUCTOR_CACHE_DIR")  # Ray and torch set two where they are used


def can_fork() -> bool:
    """Whether this system has what the server needs; without it commands are started."""
    try:
        os.close(os.pidfd_open(os.getpid()))
    except (AttributeError, OSError):  # an old kernel has none, a sandbox may forbid it
        return False
    return Path("/proc/self/task").is_dir()


FORKS = can_fork()


class Python(subprocess.Popen[Any]):
    """`subprocess.Popen` of `[sys.executable, "-m", module, ...]` or `[sys.executable, file, ...]`, forked not started.

    Anything else, what has other variables that modules read when imported, and all where `FORKS` is false, is started.
    """

    _status: socket.socket | None = None

    def _execute_child(
        self,
        args: list[Any],
        executable: Any,
        preexec_fn: Any,
        close_fds: Any,
        pass_fds: Any,
        cwd: Any,
        env: Any,
        *rest: Any,
    ) -> None:
        environment = {name: os.fsdecode(value) for name, value in (os.environ if env is None else env).items()}
        if (
            not FORKS
            or not args[1:]
            or os.fspath(args[0]) != sys.executable
            or preexec_fn
            or pass_fds
            or _imports_differ(environment)
        ):
            super()._execute_child(args, executable, preexec_fn, close_fds, pass_fds, cwd, env, *rest)
            return
        _, _, _, p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite, *_ = rest
        wanted = {
            "arguments": [os.fsdecode(argument) for argument in args[1:]],
            "folder": os.getcwd() if cwd is None else os.fspath(cwd),
            "environment": environment,
        }
        streams = [inherited if given == -1 else given for inherited, given in enumerate((p2cread, c2pwrite, errwrite))]
        status, told = socket.socketpair()
        try:
            with told:
                _server().send(wanted, [*streams, told.fileno()])
            status.settimeout(600)
            self.pid = int.from_bytes(_exactly(status, 4))
        except BaseException:
            status.close()
            raise
        self._status = status
        self._close_pipe_fds(p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite)  # type: ignore[attr-defined]
        self._child_created = True

    def _internal_poll(self, _deadstate: int | None = None) -> int | None:
        if self._status is None:
            return super()._internal_poll(_deadstate)  # type: ignore[misc]
        if self.returncode is None:
            self._take(0)
        return self.returncode

    def _try_wait(self, wait_flags: int) -> tuple[int, int]:
        if self._status is None:
            return super()._try_wait(wait_flags)  # type: ignore[misc]
        raise AssertionError("a forked process is waited for by its status")

    def _wait(self, timeout: float | None) -> int | None:
        if self._status is None:
            return super()._wait(timeout)  # type: ignore[misc]
        if self.returncode is None and not self._take(timeout):
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        return self.returncode

    def _take(self, timeout: float | None) -> bool:
        assert self._status is not None
        if not select.select([self._status], [], [], timeout)[0]:
            return False
        self.returncode = os.waitstatus_to_exitcode(int.from_bytes(_exactly(self._status, 4)))
        self._status.close()
        return True


def run(
    arguments: list[Any], *, timeout: float | None = None, capture_output: bool = False, **options: Any
) -> subprocess.CompletedProcess[Any]:
    """`subprocess.run` of a `Python`."""
    if capture_output:
        options |= {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with Python(arguments, **options) as process:
        try:
            out, err = process.communicate(timeout=timeout)
        except BaseException:
            process.kill()
            raise
    return subprocess.CompletedProcess(arguments, process.returncode, out, err)


class _Server:
    """The process that forks; it ends with the one that asked for it."""

    def __init__(self, environment: Mapping[str, str] = ENVIRONMENT) -> None:
        self.environment = environment
        self.control, theirs = socket.socketpair(type=socket.SOCK_SEQPACKET)
        self.said = tempfile.TemporaryFile("w+")  # noqa: SIM115, read when the server is gone
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, __file__, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                cwd=REPOSITORY,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self.said,
                start_new_session=True,
            )
        self.control.settimeout(PATIENCE)
        try:
            ready = self.control.recv(len(READY)) == READY
        except TimeoutError:
            self.process.kill()
            ready = False
        if not ready:
            self.control.close()
            self.process.wait()
            raise self.gone()

    def send(self, wanted: Mapping[str, Any], files: list[int]) -> None:
        try:
            socket.send_fds(self.control, [json.dumps(wanted).encode()], files)
        except OSError:
            raise self.gone() from None

    def gone(self) -> RuntimeError:
        """What became of it."""
        self.said.seek(0)
        return RuntimeError(f"the server of processes is gone: {self.said.read()}")


@functools.cache
def _server() -> _Server:
    return _Server()


def _imports_differ(environment: Mapping[str, str]) -> bool:
    """Whether modules that were imported with the server's environment would be others with this one."""
    ours = _server().environment
    names = {name for name in {*ours, *environment} if name.startswith(READ_AT_IMPORT) and name not in READ_LATER}
    return any(ours.get(name) != environment.get(name) for name in names)


def _exactly(status: socket.socket, size: int) -> bytes:
    got = status.recv(size, socket.MSG_WAITALL)
    if len(got) != size:
        raise _server().gone()
    return got


def _serve(control: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """Fork for each request until nobody is left to ask; returns, with what to be, in the forked processes alone."""
    poll, running = select.poll(), {}
    poll.register(control, select.POLLIN)
    while True:
        for ready, _ in poll.poll():
            if ready in running:
                pid, status = running.pop(ready)
                poll.unregister(ready)
                os.close(ready)
                _, found = os.waitpid(pid, 0)
                with status:
                    _tell(status, found)
                continue
            text, files, _, _ = socket.recv_fds(control, 2**20, 4)
            if not text:
                os._exit(0)
            pid = os.fork()
            if pid == 0:
                os.close(files.pop())
                control.close()
                for handle, (_, status) in running.items():
                    os.close(handle)
                    status.close()
                return json.loads(text), files
            status = socket.socket(fileno=files.pop())
            for file in files:
                os.close(file)
            _tell(status, pid)
            handle = os.pidfd_open(pid)
            running[handle] = (pid, status)
            poll.register(handle, select.POLLIN)


def _tell(status: socket.socket, number: int) -> None:
    with contextlib.suppress(OSError):  # nobody may be waiting for it any more
        status.sendall(number.to_bytes(4))


def _become(wanted: dict[str, Any], files: list[int]) -> None:
    """Be the process that `python ARGUMENTS` would be."""
    os.setsid()
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=stream.isatty() or stream is sys.stderr)  # type: ignore[union-attr]
    os.environ.clear()
    os.environ.update(wanted["environment"])
    os.chdir(wanted["folder"])
    first, *rest = wanted["arguments"]
    added = [path for path in wanted["environment"].get("PYTHONPATH", "").split(os.pathsep) if path]
    kept = [path for path in sys.path if path not in (str(Path(__file__).parent), str(REPOSITORY))]
    kept.append(str(REPOSITORY))  # last, where an editable install has it: what is spawned looks for evoprompt there
    importlib.invalidate_caches()
    if first == "-m":
        sys.argv = ["-m", *rest[1:]]
        sys.path[:] = [os.getcwd(), *added, *kept]
        sys.modules["__main__"] = ModuleType("__main__")
        sys.modules["__main__"].__dict__["__builtins__"] = __builtins__
        sys.modules.pop(rest[0], None)
        runpy._run_module_as_main(rest[0])  # type: ignore[attr-defined]
    else:
        sys.argv = [first, *rest]
        sys.path[:] = [str(Path(first).resolve().parent), *added, *kept]
        main = sys.modules["__main__"] = ModuleType("__main__")
        main.__dict__.update(__builtins__=__builtins__, __file__=str(Path(first).absolute()))
        exec(compile(Path(first).read_bytes(), first, "exec"), main.__dict__)


def _modules() -> list[str]:
    """The modules of evoprompt's rooms, but for those that are commands."""
    rooms = [importlib.import_module(f"evoprompt.{room}") for room in ROOMS]
    found = [module.name for room in rooms for module in pkgutil.walk_packages(room.__path__, f"{room.__name__}.")]
    return [name for name in found if not name.endswith(".__main__")]


def _threads() -> int:
    return len(os.listdir("/proc/self/task"))


if __name__ == "__main__":
    _control = socket.socket(fileno=int(sys.argv[1]))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for _name in (*IMPORTED, *_modules()):
        importlib.import_module(_name)
    assert _threads() == 1, "a thread would be missing in what is forked"
    gc.collect()
    gc.freeze()
    _control.sendall(READY)
    _process = _serve(_control)
    _become(*_process)
