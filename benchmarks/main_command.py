"""Wall time and memory of the main command, and the price of the import: `python -m benchmarks.main_command`."""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
import time

FORBIDDEN = ("torch", "transformers", "ray", "hydra", "nevergrad", "cma")


def import_seconds(repeats: int) -> tuple[float, float]:
    """Median wall seconds of `python -c "import evoprompt"`, and of an empty interpreter."""

    def median(code: str) -> float:
        times = []
        for _ in range(repeats):
            began = time.perf_counter()
            subprocess.run([sys.executable, "-c", code], check=True)
            times.append(time.perf_counter() - began)
        return statistics.median(times)

    return median("import evoprompt"), median("pass")


def imported() -> list[str]:
    """Which of the heavy packages `import evoprompt` loads."""
    code = f"import evoprompt, sys; print(*[name for name in {FORBIDDEN!r} if name in sys.modules])"
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()


def cpu_seconds(arguments: list[str], repeats: int = 5) -> float:
    """Least CPU seconds of `evoprompt` with arguments for which it needs no model."""
    times = []
    for _ in range(repeats):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        code = f"from evoprompt.commands.start import main; main({arguments!r})"
        subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(times)


def main_command(overrides: list[str]) -> tuple[float, float]:
    """Wall seconds and peak resident GiB of the largest process of one run."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        arguments = ["+culture=arab", f"hydra.run.dir={folder}/run", *overrides]
        subprocess.run([sys.executable, "-m", "evoprompt.run", *arguments], check=True, stdout=subprocess.DEVNULL)
        seconds = time.perf_counter() - began
    return seconds, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("overrides", nargs="*")
    seconds, gib = main_command(parser.parse_args().overrides)
    loaded, bare = import_seconds(7)
    print("| what | measured | bar |\n|---|---|---|")
    print(f"| main command, wall | {seconds:.0f} s | 120 s |")
    print(f"| main command, peak resident | {gib:.2f} GiB | 2 GiB |")
    print(f"| import evoprompt (an empty interpreter takes {bare:.3f} s) | {loaded:.3f} s | 0.3 s |")
    for arguments, bar in ((["--help"], 0.2), (["--version"], 0.2), (["experts", "list"], 1.0)):
        print(f"| evoprompt {' '.join(arguments)}, CPU | {cpu_seconds(arguments):.3f} s | {bar} s |")
    print(f"| heavy packages it imports | {' '.join(imported()) or 'none'} | none |")


if __name__ == "__main__":
    main()
