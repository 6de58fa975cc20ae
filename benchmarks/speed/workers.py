"""Any number of workers on one run: efficiency, overhead per artifact, and traffic on leases.

    OMP_NUM_THREADS=1 python benchmarks/speed/workers.py

The worker, leases and records of runs, on artifacts that sleep. One of four is an encoder, and the other three need it.
Each worker has the same number of artifacts; the ideal time is what they sleep, and the efficiency is the ideal over
the measured time, from the moment at which all workers are ready. The overhead is the time, and the processor time of
all workers, that artifacts take which do not sleep. An attempt is the exclusive creation of a lease's file, which fails
where another worker holds it; a write is a sign of life with the current progress.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import platform
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from multiprocessing.sharedctypes import Synchronized
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any, Literal

from ssl3d.progress import Progress
from ssl3d.results import lease as lease_module
from ssl3d.results.folder import RunFolder
from ssl3d.results.lease import Lease, Leases
from ssl3d.results.model import FeaturesRecord
from ssl3d.results.provenance import made_by
from ssl3d.results.records import find_record, sound, write_record
from ssl3d.run.artifact import Context
from ssl3d.run.graph import Graph
from ssl3d.run.options import Options
from ssl3d.run.worker import Worker

FORK = multiprocessing.get_context("fork")  # workers need not import torch again: starting them is not measured


@dataclass(frozen=True)
class Sleeping:
    """An artifact that takes a fixed time."""

    key: str
    seconds: float
    needs: tuple[Sleeping, ...] = ()
    kind: Literal["features"] = "features"

    @property
    def name(self) -> str:
        """Name of its folder."""
        return f"sleeping-{self.key}"

    @property
    def label(self) -> str:
        """Name in messages."""
        return self.name

    def folder(self, context: Context) -> Path:
        """Return its folder."""
        return context.folder.folder_of(FeaturesRecord, self.name)

    def leases(self, context: Context) -> Leases:
        """Return the leases of the run."""
        return context.leases(context.folder.leases)

    def is_complete(self, context: Context) -> bool:
        """Return whether record and file are there, as real artifacts do."""
        record = find_record(self.folder(context), FeaturesRecord, key=self.key)
        return record is not None and sound(self.folder(context), record)

    def make(self, context: Context, lease: Lease) -> str:
        """Sleep, and write a file and a record."""
        time.sleep(self.seconds)
        lease.require()
        values: dict[str, Any] = {"encoder": "0", "encoder_sha256": "0", "data": "none", "fingerprint": "0"}
        record = FeaturesRecord(key=self.key, name=self.name, made_by=made_by({}), volumes=0, widths={}, **values)
        write_record(self.folder(context), record, {"content": self.key})
        return ""


@dataclass
class Shared:
    """What the processes share: the start, and what they count."""

    ready: Barrier
    attempts: Synchronized[int]
    writes: Synchronized[int]
    ended: Synchronized[float]
    computed: Synchronized[float]


def main() -> None:
    """Print a table with one row per number of workers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, nargs="+", default=(1, 2, 4, 8, 16))
    parser.add_argument("--each", type=int, default=16, help="artifacts for each worker")
    parser.add_argument("--seconds", type=float, default=1.0, help="that an artifact takes")
    options = parser.parse_args()
    print(f"{platform.platform()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; ", end="")
    print(f"{options.each} artifacts of {options.seconds:g} s for each worker\n")
    print("| workers | artifacts | s | efficiency | attempts/s | writes/s | overhead, ms | of it computing, ms |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for workers in options.workers:
        seconds, attempts, writes, _ = measured(workers, options.each, options.seconds)
        bare, _, _, used = measured(workers, options.each, 0.0)
        ideal = options.each * options.seconds
        rates = f"{attempts / seconds:.1f} | {writes / seconds:.1f}"
        overhead = f"{1000 * bare / options.each:.1f} | {1000 * used / options.each / workers:.1f}"
        row = f"{workers} | {workers * options.each} | {seconds:.2f} | {ideal / seconds:.3f} | {rates} | {overhead}"
        print(f"| {row} |", flush=True)


def measured(workers: int, each: int, seconds: float) -> tuple[float, int, int, float]:
    """Return the time until all artifacts are made, attempts to take a lease, writes to leases, and processor time."""
    graph = Graph(tuple(artifacts(workers * each, seconds)))
    shared = Shared(FORK.Barrier(workers + 1), *(FORK.Value(kind, 0) for kind in "iidd"))
    with tempfile.TemporaryDirectory() as folder:
        started = [FORK.Process(target=_work, args=(Path(folder), graph, shared)) for _ in range(workers)]
        for process in started:
            process.start()
        shared.ready.wait()
        begun = time.monotonic()
        for process in started:
            process.join()
        context = Context(RunFolder(Path(folder)), Options(cache=None), Progress())
        assert all(one.is_complete(context) for one in graph.artifacts)
    return shared.ended.value - begun, shared.attempts.value, shared.writes.value, shared.computed.value


def artifacts(count: int, seconds: float) -> Iterator[Sleeping]:
    """Yield artifacts: an encoder, and up to three that need it."""
    encoder = None
    for number in range(count):
        if number % 4 == 0:
            encoder = Sleeping(f"{number:06x}", seconds)
            yield encoder
        else:
            yield Sleeping(f"{number:06x}", seconds, () if encoder is None else (encoder,))


def _work(folder: Path, graph: Graph, shared: Shared) -> None:
    """Be one of the workers, and count."""
    lease_module._create = partial(_counted, shared.attempts, lease_module._create)
    Lease._write = lambda self, write=Lease._write: _counted(shared.writes, write, self)  # type: ignore[method-assign]
    context = Context(RunFolder(folder), Options(cache=None), Progress())
    shared.ready.wait()
    before = time.process_time()
    Worker(graph, context, one_of_many=True).work()
    with shared.computed.get_lock(), shared.ended.get_lock():
        shared.computed.value += time.process_time() - before
        shared.ended.value = max(shared.ended.value, time.monotonic())  # one clock for all processes of a machine


def _counted(counter: Synchronized[int], function: Any, *arguments: Any) -> Any:
    with counter.get_lock():
        counter.value += 1
    return function(*arguments)


if __name__ == "__main__":
    main()
