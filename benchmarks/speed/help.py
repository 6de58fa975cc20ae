"""Time of the commands that only help or list, as whole processes, against an empty Python process.

python benchmarks/speed/help.py
"""

from __future__ import annotations

import argparse
import platform
import subprocess
import sys
import time
from statistics import median

COMMANDS = {
    "python -c pass": ["-c", "pass"],
    "ssl3d --help": ["-m", "ssl3d", "--help"],
    "ssl3d bench --help": ["-m", "ssl3d", "bench", "--help"],
    "ssl3d data pack --help": ["-m", "ssl3d", "data", "pack", "--help"],
    "ssl3d list": ["-m", "ssl3d", "list"],
    "python -c 'import torch'": ["-c", "import torch"],
}


def seconds(arguments: list[str]) -> float:
    """Return the wall time of one process."""
    started = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
    return time.perf_counter() - started


def main() -> None:
    """Print a table: median and least time of each command, interleaved, the first round left out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=15)
    repeats = parser.parse_args().repeats
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(repeats + 1):
        for name, arguments in COMMANDS.items():
            times[name].append(seconds(arguments))
    print(f"{platform.platform()}, Python {platform.python_version()}, {repeats} runs each\n")
    print("| command | median, ms | least, ms |\n| --- | --- | --- |")
    for name, found in times.items():
        print(f"| {name} | {1000 * median(found[1:]):.0f} | {1000 * min(found[1:]):.0f} |")


if __name__ == "__main__":
    main()
