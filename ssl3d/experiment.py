"""The request for a run, before it is expanded into artifacts: TOML file, options, ``--set``. Loads no torch."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, Field

from ssl3d.config import Config
from ssl3d.errors import RecipeError, nearest, quoted
from ssl3d.recipe import AugmentRecipe, LabelShare, PositiveShare, PretrainRecipe, Seed, Size

PLUGINS = ("method", "backbone", "protocol")  # sections with one subsection per plugin
MAY_GROW: dict[str, Any] = {  # fields that may differ between calls on one run: a call adds to them
    **dict.fromkeys(("methods", "backbones", "seeds", "controls", *PLUGINS), True),
    "data": {"task", "plane"},
    "evaluate": {"protocols", "labels"},
}
TUNED_LR = {"pretrain.tune_lr": (0.25, 1.0, 4.0)}
TUNED = {f"pretrain.{name}": "auto" for name in ("micro_batch", "precision", "channels_last", "compile")}
LAUNCHER = "launcher"  # section of a recipe file that says where workers run, and is not part of the experiment
ALL = "all"  # every task, plane or control
NONE = "none"  # no control
SEEDS = (0, 1, 2)  # fewer say nothing about methods


def _split(value: Any) -> Any:
    """Split a text at its commas."""
    return tuple(part.strip() for part in value.split(",")) if isinstance(value, str) else value


Names = Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Field(min_length=1), BeforeValidator(_split)]


class DataChoice(Config):
    """The data sets to evaluate on, with their targets, planes and folds."""

    name: Names = Field(("demo",), description="data sets, with their variants: demo, mrnet, medmnist3d:adrenalmnist3d")
    task: Names | None = Field(
        None,
        description="targets to predict, or all; each data set's first if unset. With several data sets a name "
        "counts for those that have it",
    )
    plane: Names | None = Field(None, description="planes of the exam, or all; each data set's first if unset")
    folds: int | None = Field(
        None, ge=2, le=1000, description="outer folds of cross-validation, in place of the data sets' own splits"
    )


class InitChoice(Config):
    """The weights that pretraining starts from, and how files of weights are loaded."""

    weights: str | None = Field(
        None,
        min_length=1,
        description="what the methods that train start from, except controls: a name of the backbone's published "
        "weights, or a file; unset: a random start",
    )
    prefix: str | None = Field(
        None,
        description="beginning of the network's names in a file (module.encoder_q.), without which they are loaded; "
        "unset: usual ones (module., backbone., encoder., ...), by what matches",
    )
    allow_partial: bool = Field(
        False, description="load a file even if it lacks some of the network's tensors, which then start at random"
    )


class EvaluateChoice(Config):
    """How encoders are evaluated."""

    protocols: Names = Field(
        ("linear", "knn"), description="protocols: linear, knn, attentive, finetune, or a plugin of yours"
    )
    readouts: Names = Field(
        ("last", "multi"),
        min_length=1,
        description="features that protocols on frozen encoders choose from by the inner folds: last (what the network "
        "returns), multi (means of all stages), max, mean (of tokens); one name fixes it",
    )
    inner_folds: int = Field(
        5, ge=2, le=100, description="folds of the training cases that choose what a protocol tunes"
    )
    labels: tuple[LabelShare, ...] = Field(
        (1.0,), min_length=1, description="shares of the training labels to evaluate with, as well as all of them"
    )
    imbalance: tuple[PositiveShare, ...] = Field(
        (), description="shares of positives among the training labels to evaluate with, at one number of labels"
    )
    draws: int = Field(3, ge=1, le=1000, description="draws of the labels at each such share")
    batch_size: int = Field(16, ge=1, le=100_000, description="volumes encoded at once")


class Experiment(Config):
    """Methods x backbones x seeds, pretrained on one corpus, evaluated on tasks and planes of data sets."""

    methods: tuple[str, ...] = Field(("byol", "simclr"), min_length=1, description="methods to pretrain with")
    backbones: tuple[str, ...] = Field(("tiny",), min_length=1, description="networks to pretrain")
    seeds: tuple[Seed, ...] = Field(SEEDS, min_length=1, description="repetitions")
    controls: Names = Field(
        (ALL,), description="controls beside the methods, by name: all that are possible, or none of them"
    )
    corpus: Names | None = Field(
        None, description="data sets to pretrain on, labelled or not; unset: the training split of each evaluated one"
    )
    init: InitChoice = InitChoice()
    data: DataChoice = DataChoice()
    view_size: Size | None = Field(None, description="slices, rows, columns of a view; unset: the data set's own")
    augment: AugmentRecipe = AugmentRecipe()
    pretrain: PretrainRecipe = PretrainRecipe()
    evaluate: EvaluateChoice = EvaluateChoice()
    method: dict[str, dict[str, Any]] = Field(default_factory=dict, description="settings of methods, by name")
    backbone: dict[str, dict[str, Any]] = Field(default_factory=dict, description="settings of backbones, by name")
    protocol: dict[str, dict[str, Any]] = Field(default_factory=dict, description="settings of protocols, by name")

    def asked(self) -> dict[str, Any]:
        """Return the fields that were set, as plain nested values: these override a method's preset."""
        return self.model_dump(mode="json", exclude_unset=True)

    def base(self) -> dict[str, Any]:
        """Return the fields that all calls on a run must share: everything except ``MAY_GROW``.

        A tuned learning rate depends on tasks and planes; all calls share these, too, then.
        """
        fixed = {"data"} if self.pretrain.tune_lr else set()
        grows = {name: of for name, of in MAY_GROW.items() if name not in fixed}
        return self.model_dump(mode="json", exclude=grows if self.init != InitChoice() else {**grows, "init": True})


def read_experiment(
    file: Path | None = None,
    options: Mapping[str, Any] | None = None,
    sets: Iterable[str] = (),
    otherwise: Mapping[str, Any] | None = None,
) -> Experiment:
    """Combine a recipe file, options and ``key=value`` settings; later ones win.

    Args:
        file: TOML, with the fields of :class:`Experiment`.
        options: values by dotted name ("pretrain.epochs"); None means not given.
        sets: "key=value"; the key is a dotted name, or a field's own name if only one section has it; the value is TOML
            or plain text.
        otherwise: values by dotted name, used for fields that are not set otherwise.

    Raises:
        RecipeError: the file cannot be read, or a field is unknown, of the wrong type, or out of bounds.
    """
    values = _read_toml(file) if file else {}
    values.pop(LAUNCHER, None)
    sets = [text for text in sets if not text.strip().startswith(f"{LAUNCHER}.")]
    given = {name: value for name, value in (options or {}).items() if value is not None}
    for name, value in [*given.items(), *map(_parse_set, sets)]:
        _put(values, _path(name), value)
    for name, value in (otherwise or {}).items():
        if not _has(values, _path(name)):
            _put(values, _path(name), value)
    return Experiment.checked(values, "")


def read_section(name: str, file: Path | None, sets: Iterable[str]) -> dict[str, Any]:
    """Return a section of a recipe file as plain values, with settings ``NAME.KEY=VALUE`` on top.

    Raises:
        RecipeError: the file cannot be read, or the name is a value, not a section.
    """
    section = _read_toml(file).get(name, {}) if file else {}
    if not isinstance(section, dict):
        raise RecipeError(f"{file}: {name!r} is a value, not a section")
    for text in sets:
        if text.strip().startswith(f"{name}."):
            _put(section, text.partition("=")[0].strip().split(".")[1:], _parse_value(text))
    return section


def known_fields() -> dict[str, Any]:
    """Return every settable field by dotted name, with its pydantic description."""
    return dict(_walk(Experiment, ""))


def _read_toml(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text("utf-8"))
    except OSError as error:
        raise RecipeError(f"{file} cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:
        raise RecipeError(f"{file} is not valid TOML: {_reason(error)}; correct it") from None


def _reason(error: Exception) -> str:
    """Return what is wrong with a text that is not TOML."""
    if isinstance(error, UnicodeDecodeError):
        return "it is not text in UTF-8"
    return "it is nested too deeply" if isinstance(error, RecursionError) else str(error)


def _path(name: str) -> list[str]:
    """Split a dotted name. In ``method.NAME.SETTING`` the name may contain dots: ``my_method.py:MyMethod``."""
    section, _, rest = name.partition(".")
    if section not in PLUGINS:
        return name.split(".")
    plugin, _, setting = rest.rpartition(".")
    return [section, plugin.strip("'\""), setting]


def _parse_set(text: str) -> tuple[str, Any]:
    value = _parse_value(text)
    return _full_name(text.partition("=")[0].strip()), value


def _parse_value(text: str) -> Any:
    """Return the value of ``KEY=VALUE``: TOML, or plain text."""
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise RecipeError(f"--set {quoted(text)} needs the form KEY=VALUE")
    try:
        return tomllib.loads(f"value = {value}")["value"]
    except RecursionError:
        raise RecipeError(
            f"--set {quoted(key)}: the value is nested too deeply; give the value that the field takes"
        ) from None
    except ValueError:
        return value.strip()


def _full_name(key: str) -> str:
    fields = known_fields()
    if key in fields or (key.split(".", maxsplit=1)[0] in PLUGINS and key.count(".") >= 2):
        return key
    matches = [name for name in fields if name.split(".")[-1] == key]
    if len(matches) == 1:
        return matches[0]
    if matches:
        raise RecipeError(f"field {key!r} could be {' or '.join(matches)}; write one of them")
    short = {name.split(".")[-1]: name for name in fields}
    raise RecipeError(f"unknown field {key!r}{nearest(key, [*fields, *short])}")


def _walk(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _walk(field.annotation, f"{prefix}{name}.")
        elif name not in PLUGINS:
            yield f"{prefix}{name}", field


def _has(values: Any, path: list[str]) -> bool:
    for part in path:
        if not (isinstance(values, dict) and part in values):
            return False
        values = values[part]
    return True


def _put(values: dict[str, Any], path: list[str], value: Any) -> None:
    for part in path[:-1]:
        inner = values.setdefault(part, {})
        if not isinstance(inner, dict):
            raise RecipeError(f"{'.'.join(path)}: {part!r} is a value, not a section")
        values = inner
    values[path[-1]] = value
