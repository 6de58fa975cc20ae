"""The fallback for a step that fails as planned: repeat it in a less demanding way."""

from __future__ import annotations

from ssl3d.engine import Engine
from ssl3d.recipe import PretrainRecipe
from ssl3d.train.tuning.layout import compiler_failed, first_line
from ssl3d.train.tuning.memory import out_of_memory

NOT_COMPILED = "torch.compile failed and was left out"


def fallback(engine: Engine, recipe: PretrainRecipe, error: Exception) -> tuple[Engine, str] | None:
    """Return another engine for a step that failed, and a sentence on it; None if no engine would help.

    A step that runs out of memory is split further, if the recipe leaves the split open and this changes no gradient.
    A backbone that cannot be compiled runs uncompiled.

    Args:
        engine: engine of the failed step.
        recipe: recipe of the pretraining.
        error: exception that was raised.
    """
    if out_of_memory(error):
        return _smaller(engine) if recipe.micro_batch == "auto" and recipe.accumulation == "exact" else None
    if engine.compile and engine.processes == 1 and compiler_failed(error):
        return engine.model_copy(update={"compile": False}), f"{NOT_COMPILED}: {first_line(error)}"
    return None


def _smaller(engine: Engine) -> tuple[Engine, str] | None:
    """Halve the memory: first the micro-batch, then the number of micro-batches kept."""
    micro_batch, keep = engine.micro_batch // 2, engine.keep
    if micro_batch == 0:
        micro_batch, keep = 1, engine.keep // 2
    if keep == 0:
        return None
    smaller = engine.model_copy(update={"micro_batch": micro_batch, "keep": keep})
    return smaller, f"out of memory with micro-batches of {_text(engine)}: repeated with {_text(smaller)}"


def _text(engine: Engine) -> str:
    return f"{engine.micro_batch}" if engine.keep == 1 else f"{engine.micro_batch} ({engine.keep} of them kept)"
