"""Run in a fresh process: import one module and write down which global settings that changed.

``python -m ssl3d.testing.imported MODULE FILE ANSWER``, with a JSON object on the standard input: FILE is empty for a
module with an importable name, ANSWER the JSON file to write; ``path`` of the object is the ``sys.path`` to find the
module on, ``first`` are modules to import before the first look at the settings. What libraries do when they are
imported is not the plugin's doing: where settings changed, another process imports first what this one found to be
imported from elsewhere.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import locale
import logging
import os
import random
import signal
import subprocess
import sys
import threading
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch

import ssl3d.method  # noqa: F401  # it brings what every plugin needs, before the first look
from ssl3d.plugin_files.folders import allow_imports


def main(module: str, file: str, answer: str) -> None:
    """Import the module and write the names of the settings that differ."""
    given, environment = json.load(sys.stdin), dict(os.environ)
    sys.path[:] = given["path"]
    for name in given["first"]:
        with suppress(Exception):  # some names in sys.modules cannot be imported
            importlib.import_module(name)
    before, loaded = settings(), set(sys.modules)
    _import(module, file)
    after = settings()
    changes = [name for name in before if before[name] != after[name]]
    own = module.partition(".")[0]
    others = [name for name in sys.modules if name not in loaded and name.partition(".")[0] != own]
    if changes and others and not given["again"]:
        command = [sys.executable, *sys.orig_argv[1:]]
        with subprocess.Popen(command, stdin=subprocess.PIPE, text=True, env=environment) as again:  # noqa: S603
            again.communicate(json.dumps({**given, "first": [*given["first"], *others], "again": True}))
        return
    Path(answer).write_text(json.dumps(changes))


def _import(module: str, file: str) -> None:
    if not file:
        importlib.import_module(module)
        return
    allow_imports(Path(file))
    spec = importlib.util.spec_from_file_location(module, file)
    assert spec is not None
    assert spec.loader is not None
    sys.modules[module] = loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)


def settings() -> dict[str, Any]:
    """Return global settings by the names that a message gives them."""
    cudnn = torch.backends.cudnn
    return {
        "torch's default dtype": torch.get_default_dtype(),
        "torch's default device": torch.get_default_device(),
        "torch's gradient mode": torch.is_grad_enabled(),
        "torch's number of threads": torch.get_num_threads(),
        "torch's deterministic mode": torch.are_deterministic_algorithms_enabled(),
        "torch's matmul precision": torch.get_float32_matmul_precision(),
        "torch's cudnn flags": (cudnn.enabled, cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32),
        "torch's random state": torch.get_rng_state().tolist(),
        "numpy's random state": str(np.random.get_state(legacy=False)),
        "numpy's error handling": np.geterr(),
        "random's state": random.getstate(),
        "the warnings filters": list(warnings.filters),
        "the environment": dict(os.environ),
        "the running threads": sorted(thread.name for thread in threading.enumerate()),
        "the working directory": Path.cwd(),
        "the locale": locale.setlocale(locale.LC_ALL),
        "the signal handlers": [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)],
        "the root logger": (logging.root.level, list(logging.root.handlers)),
        "sys.path": list(sys.path),
    }


if __name__ == "__main__":
    main(*sys.argv[1:])
