"""The command line of a worker, however it is started."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from ssl3d.errors import RunError
from ssl3d.results.read import read_plan
from ssl3d.run.options import Options
from ssl3d.run.planning.plan import Plan
from ssl3d.run.trust import Named, named_by_encoder, named_by_evaluation, named_by_run, unregistered


def worker_command(run: Path, options: Options, device: str, *more: str, allow_code: bool = False) -> list[str]:
    """Return the command of a worker on a run.

    Args:
        run: folder of the run.
        options: ``weights`` are passed on.
        device: "auto", "cpu", "cuda" or "cuda:1".
        more: further options of ``ssl3d work``.
        allow_code: whether it may import plugins that plan.json names by file or module.
    """
    weights = () if options.weights is None else ("--weights", str(options.weights.resolve()))
    allowed = ("--allow-code",) if allow_code else ()
    # -P: the working directory is searched only if it is here, too; see worker_path.
    where = (str(run.resolve()), "--device", device)
    return [sys.executable, "-P", "-m", "ssl3d", "work", *where, *weights, *allowed, *more]


def worker_path() -> str:
    """Return the value of PYTHONPATH with which a worker imports what this process imports."""
    return os.pathsep.join(dict.fromkeys(str(Path(path).resolve()) for path in sys.path if path))


def code_allowed(plan: Plan, run: Path) -> bool:
    """Return whether workers may import the unregistered plugins of a run: those that this call names itself.

    Raises:
        RunError: the run names further ones, from an earlier call, which this call has not allowed.
    """
    own = unregistered(_named(plan))
    others = [name for kind, name in unregistered(named_by_run(read_plan(run))) if (kind, name) not in own]
    if others:
        raise RunError(
            f"{run} was planned with {', '.join(others)}, too, which this command does not name, and workers take "
            "part in the whole run; name all of them, or work with --jobs 1"
        )
    return bool(own)


def names_code(plan: Plan) -> bool:
    """Return whether a plan names plugins that are not registered, by file or module."""
    return bool(unregistered(_named(plan)))


def _named(plan: Plan) -> list[Named]:
    found = [one for request in plan.requests for one in named_by_encoder(request.recipe)]
    return [*found, *(one for request in plan.requests for e in request.evaluations for one in named_by_evaluation(e))]
