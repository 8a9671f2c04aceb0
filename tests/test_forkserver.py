"""A forked command is what a started one is: exit codes, signals, pipes, environment, folder and path."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import forkserver
import psutil
import pytest

ENDINGS = {
    "nothing": "",
    "a number": "import sys; sys.exit(7)",
    "words": "import sys; sys.exit('stopped')",
    "an exception": "raise ValueError('odd')",
    "an interruption": "raise KeyboardInterrupt",
    "a signal": "import os, signal; os.kill(os.getpid(), signal.SIGTERM)",
    "a kill": "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
    "an abrupt exit": "import os; os._exit(9)",
    "work at the end": "import atexit; atexit.register(print, 'at the end')",
    "a thread": "import threading, time; threading.Thread(target=lambda: (time.sleep(0.05), print('done'))).start()",
    "no standard input": "import sys; print(repr(sys.stdin.read()))",
    "where it is": "import os, sys; print(os.getcwd(), os.environ.get('COLUMNS'), sys.argv, sys.path[0], __name__)",
    "its names": "print(sorted(name for name in globals() if name[:2] != '__'))",
    "both outputs": "import sys; print('one'); print('two', file=sys.stderr); print('é')",
}


def both(arguments: list[str], folder: Path, **options: object) -> list[subprocess.CompletedProcess[str]]:
    """What becomes of a command that is forked, and of one that is started."""
    shared = {"cwd": folder, "capture_output": True, "text": True, "stdin": subprocess.DEVNULL, "timeout": 600}
    environment = {**os.environ, "PYTHONPATH": str(folder), "COLUMNS": "77"}
    whole = [sys.executable, *arguments]
    return [run(whole, env=environment, **shared, **options) for run in (forkserver.run, subprocess.run)]  # type: ignore[operator]


@pytest.mark.parametrize("way", ["module", "file"])
@pytest.mark.parametrize("code", ENDINGS.values(), ids=ENDINGS)
def test_a_forked_command_ends_and_speaks_like_a_started_one(code: str, way: str, tmp_path: Path) -> None:
    (tmp_path / "short_story.py").write_text(code)
    forked, started = both(["-m", "short_story", "a", "b"] if way == "module" else ["short_story.py", "a"], tmp_path)
    assert forked.returncode == started.returncode
    assert forked.stdout == started.stdout
    assert forked.stderr.splitlines()[-1:] == started.stderr.splitlines()[-1:]


def test_where_the_system_cannot_fork_so_the_command_is_started(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(forkserver, "FORKS", False)
    (tmp_path / "parents.py").write_text("import os; print(os.getppid())")
    done = forkserver.run([sys.executable, "parents.py"], cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert (done.returncode, done.stdout) == (0, f"{os.getpid()}\n")


def test_what_ray_and_torch_set_where_they_are_used_hinders_no_fork(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("PYTHONBREAKPOINT", "ray.util.pdb.set_trace")
    (tmp_path / "parents.py").write_text("import os; print(os.getppid())")
    done = forkserver.run([sys.executable, "parents.py"], cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert (done.stdout != f"{os.getpid()}\n") == forkserver.FORKS


def test_where_no_process_can_be_watched_there_is_nothing_to_fork_with(tmp_path: Path) -> None:
    code = (
        "import resource, forkserver; resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3)); print(forkserver.can_fork())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parent, capture_output=True, text=True, timeout=600, check=True
    )
    assert done.stdout == "False\n"


def test_a_server_that_cannot_import_says_why_at_once(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('torn in two')")
    environment = {**forkserver.ENVIRONMENT, "PYTHONPATH": str(tmp_path)}
    with pytest.raises(RuntimeError, match=r"the server of processes is gone: (?s:.*)ImportError: torn in two"):
        forkserver._Server(environment)


def test_a_module_that_is_not_there_is_said_as_python_says_it(tmp_path: Path) -> None:
    forked, started = both(["-m", "no_such_story"], tmp_path)
    assert (forked.returncode, forked.stderr) == (started.returncode, started.stderr)


@pytest.fixture
def waiting(tmp_path: Path) -> forkserver.Python:
    """A process that says `ready` and waits, and that ends with 130 when interrupted."""
    (tmp_path / "waits.py").write_text(
        "import sys, time\nprint('ready', flush=True)\n"
        "try:\n    time.sleep(60)\nexcept KeyboardInterrupt:\n    sys.exit(130)\n"
    )
    process = forkserver.Python([sys.executable, "waits.py"], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert select.select([process.stdout], [], [], 120)[0], "it says nothing"
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, -15), (signal.SIGKILL, -9)])
def test_signals_reach_it_and_are_told(waiting: forkserver.Python, sent: signal.Signals, code: int) -> None:
    with waiting:
        assert waiting.poll() is None
        with pytest.raises(subprocess.TimeoutExpired):
            waiting.wait(timeout=0.05)
        waiting.send_signal(sent)
        assert waiting.wait(timeout=600) == code
        assert waiting.poll() == code


def test_it_has_a_process_and_a_session_of_its_own(waiting: forkserver.Python) -> None:
    with waiting:
        assert psutil.Process(waiting.pid).is_running()
        assert os.getsid(waiting.pid) == waiting.pid != os.getsid(0)
        waiting.kill()


def test_one_that_outlives_its_patience_is_killed(tmp_path: Path) -> None:
    (tmp_path / "waits.py").write_text("import time; time.sleep(600)")
    began = time.monotonic()
    with pytest.raises(subprocess.TimeoutExpired):
        forkserver.run([sys.executable, "waits.py"], cwd=tmp_path, capture_output=True, timeout=0.2)
    assert time.monotonic() - began < 300


def test_many_at_once_keep_their_pipes_apart(tmp_path: Path) -> None:
    (tmp_path / "echo.py").write_text("import sys; print(sys.argv[1], sys.stdin.read())")
    begun = [
        forkserver.Python(
            [sys.executable, "echo.py", str(number)],
            cwd=tmp_path,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(6)
    ]
    said = [process.communicate(str(number), timeout=600)[0] for number, process in enumerate(begun)]
    assert said == [f"{number} {number}\n" for number in range(6)]
    assert [process.returncode for process in begun] == [0] * 6


def test_variables_that_modules_read_when_imported_start_an_interpreter(tmp_path: Path) -> None:
    (tmp_path / "loaded.py").write_text("import sys; print('torch' in sys.modules)")
    said = [
        forkserver.run(
            [sys.executable, "loaded.py"],
            cwd=tmp_path,
            env={**os.environ, **more},
            capture_output=True,
            text=True,
            timeout=600,
        ).stdout
        for more in ({"COLUMNS": "50"}, {"HF_HOME": str(tmp_path)})
    ]
    assert said == ["True\n", "False\n"]
