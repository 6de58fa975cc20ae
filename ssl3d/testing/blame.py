"""An error that a plugin raised, as one sentence: what it did, what to do, and the line of its own that did it."""

from __future__ import annotations

import inspect
import re
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from ssl3d.errors import UserError

CONTRACTS = frozenset({"ssl3d.method", "ssl3d.backbone", "ssl3d.dataset", "ssl3d.protocol"})
OTHERS = frozenset({"torch", "builtins", "abc", "typing"})
ADVICE = (  # what is in a message of Python's or torch's, and what an author does about it
    (
        "Expected more than 1 value per channel",
        "batch norm cannot work on the one volume of a small micro-batch: call it in loss, which sees the whole "
        "effective batch, or use group norm",
    ),
    ("shapes cannot be multiplied", "size heads by self.backbone.embed_dim, which differs between backbones"),
    ("same dtype|expected scalar type|mat1 and mat2 must have", "keep the dtype of the features: tensor.to(features)"),
    ("backward through the graph a second time", "detach() what is kept from one step to the next"),
    ("modified by an inplace operation", "do not change in place what gradients need; move state in after_step"),
    ("values to unpack", "batch.online and batch.target have one entry for each view that is encoded"),
    (
        "positional argument|unexpected keyword argument",
        "take the arguments that the contract gives: views(volumes, rng), online(view, rows), target(view, rows), "
        "loss(batch), after_step(progress, kept)",
    ),
    ("Can't instantiate abstract class", "define what it names"),
    ("deepcopy protocol", "detach() tensors that are kept as attributes, or register them as buffers"),
)


def explain(error: Exception, kind: type) -> str:
    """Return one sentence on an error that a plugin's class raised, or the core on its behalf."""
    text = next(iter(str(error).splitlines()), "") or "no message"
    frame = _last_frame(error, kind)
    place = _place_of(text, kind) if frame is None else _place(frame)
    if isinstance(error, UserError):  # a sentence already: what it did and what to do
        return f"{text} ({place})" if place else text
    what = f"{kind.__name__ if frame is None else _function(frame)} raised {type(error).__name__}: {text}"
    what += f" ({place})" if place else ""
    otherwise = "correct that line" if place else "for its traceback, call the kit from a test"
    advice = next((advice for pattern, advice in ADVICE if re.search(pattern, text)), otherwise)
    return f"{what}; {advice}"


def place_of(kind: type, function: str) -> str:
    """Return " (file.py:12 in function)" where a function of a class is in a plugin's own file, or nothing."""
    place = _place_of(f"{kind.__name__}.{function}", kind)
    return f" ({place})" if place else ""


def place_of_caller(kind: type) -> str:
    """Return " (file.py:12 in function)" of the innermost running line in a plugin's own file, or nothing."""
    own = own_files(kind)
    frames = traceback.walk_stack(None)
    found = next(((frame.f_code, line) for frame, line in frames if frame.f_code.co_filename in own), None)
    return f" ({_place(found)})" if found else ""


def place_of_change(kind: type, run: Callable[[], object], state: Callable[[], object]) -> str:
    """Return " (file.py:12 in function)" of the first line in a plugin's own file that changes a state, or nothing.

    Args:
        kind: the plugin's class.
        run: runs the plugin, once more.
        state: returns what is compared after each line.
    """
    own, lines = own_files(kind), list[Frame]()  # the line that runs
    before, found = state(), list[Frame]()

    def trace(frame: FrameType, event: str, argument: object) -> Any:  # noqa: ARG001  # the signature of sys.settrace
        if frame.f_code.co_filename not in own:
            return None
        if lines and not found and state() != before:
            found.append(lines[-1])
        back = frame.f_back  # where execution goes on after a return
        now = back if event == "return" and back is not None and back.f_code.co_filename in own else frame
        lines[:] = [(now.f_code, now.f_lineno)]
        return trace

    tracer = sys.gettrace()
    sys.settrace(trace)
    try:
        run()
    finally:
        sys.settrace(tracer)
    if not found and lines and state() != before:  # the last line did
        found.append(lines[-1])
    return f" ({_place(found[0])})" if found else ""


def own_files(kind: type) -> frozenset[str]:
    """Return the files of a plugin's class and of the plugins that it is derived from."""
    modules = {base.__module__ for base in kind.__mro__}
    own = {name for name in modules if name not in CONTRACTS and name.partition(".")[0] not in OTHERS}
    return frozenset(str(getattr(sys.modules.get(name), "__file__", "")) for name in own)


Frame = tuple[CodeType, int]  # what runs, and its line


def _last_frame(error: Exception, kind: type) -> Frame | None:
    own = own_files(kind)
    frames = [(frame.f_code, line) for frame, line in traceback.walk_tb(error.__traceback__)]
    return next((frame for frame in reversed(frames) if frame[0].co_filename in own), None)


def _function(frame: Frame) -> str:
    """The function with its class, a comprehension inside it left out: "Mine.loss"."""
    return frame[0].co_qualname.partition(".<locals>")[0]


def _place(frame: Frame) -> str:
    return f"{Path(frame[0].co_filename).name}:{frame[1]} in {_function(frame).rpartition('.')[2]}"


def _place_of(text: str, kind: type) -> str | None:
    """The first line of the function that a sentence is about: "Mine.loss returned None"."""
    named = re.search(rf"\b{re.escape(kind.__name__)}\.(\w+)", text)
    function = getattr(kind, named[1], None) if named else None
    code = getattr(inspect.unwrap(function), "__code__", None) if callable(function) else None
    return _place((code, code.co_firstlineno)) if code is not None and code.co_filename in own_files(kind) else None
