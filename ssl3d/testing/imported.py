"""Run in a fresh process: import one module and write down which global settings that changed.

``python -m ssl3d.testing.imported MODULE FILE ANSWER PATH``: FILE is empty for a module with an importable name, ANSWER
the JSON file to write, PATH the ``sys.path`` to find it on, as JSON. The process's settings are compared before and
after; the libraries that a plugin may well import are there before, so that what they do is not laid at its door.
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
import sys
import threading
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch

import ssl3d.method  # noqa: F401  # it brings what every plugin needs, before the first look


def main(module: str, file: str, answer: str, path: str) -> None:
    """Import the module and write the names of the settings that differ."""
    sys.path[:] = json.loads(path)
    importlib.import_module(
        "torch._dynamo"
    )  # torch's compiler, which many libraries import, sets variables and filters
    before = settings()
    if file:
        spec = importlib.util.spec_from_file_location(module, file)
        assert spec is not None
        assert spec.loader is not None
        sys.modules[module] = loaded = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(loaded)
    else:
        importlib.import_module(module)
    after = settings()
    Path(answer).write_text(json.dumps([name for name in before if before[name] != after[name]]))


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
