"""Making an encoder, and one of its evaluations, again from their records in a separate folder, and comparing them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from ssl3d.audit.compare_artifacts import (
    Compared,
    Found,
    FoundEvaluation,
    circumstances,
    compare_encoders,
    compare_evaluations,
)
from ssl3d.audit.plan_of_record import plan_of_record, settled
from ssl3d.errors import RunError
from ssl3d.progress import Progress
from ssl3d.recipe import EncoderRecipe
from ssl3d.results.folder import PLAN, RECORDS, RunFolder
from ssl3d.results.model import ArtifactRecord, EncoderRecord, EvaluationRecord, PlanRecord
from ssl3d.results.read import open_run, read_plan
from ssl3d.results.records import find_record, read_record
from ssl3d.run.execute import execute
from ssl3d.run.graph import plugin_sources
from ssl3d.run.options import Options
from ssl3d.run.trust import Named, named_by_encoder, named_by_evaluation, require_trusted
from ssl3d.run.weights import weights_hash
from ssl3d.train.build import backbone_class, method_class

R = TypeVar("R", bound=ArtifactRecord)


@dataclass(frozen=True)
class Reproduction:
    """An artifact that was made again, compared with its record.

    Attributes:
        name: name of the artifact.
        folder: folder of the run in which it was made again.
        reason: why it failed; None if it succeeded.
        parts: encoder, predictions and scores, each compared with the record.
        circumstances: differences in versions, sources, hardware, data or engine, which may explain a difference.
    """

    name: str
    folder: Path
    reason: str | None
    parts: tuple[Compared, ...]
    circumstances: tuple[str, ...]

    @property
    def same(self) -> bool:
        """Whether all numbers are bitwise equal."""
        return self.reason is None and all(part.same for part in self.parts)


@dataclass(frozen=True)
class _Recorded:
    """The artifacts to make again.

    Attributes:
        encoder: folder and record.
        evaluation: folder and record; None for the encoder alone.
        run: plan of the run; None if an encoder lies in a cache or was copied.
    """

    encoder: Found
    evaluation: FoundEvaluation | None
    run: PlanRecord | None


def reproduce(
    folder: Path, options: Options, progress: Progress | None = None, allow_code: bool = False
) -> Reproduction:
    """Make an encoder or an evaluation again and compare; a repeated call resumes where it was interrupted.

    For an evaluation, the encoder is also pretrained again. Nothing is reused from the run or a cache.

    Args:
        folder: folder of an encoder, ``RUN/encoders/NAME``, or an evaluation, ``RUN/evaluations/DATASET-TASK/NAME``.
        options: where to work; ``out`` defaults to ``reproduce-NAME`` beside the run, and ``roots`` to the files that
            the run was made from.
        progress: receives progress reports.
        allow_code: also import plugins that the records name by file or module.

    Raises:
        RunError: there is no such artifact, its inputs are missing or were changed, or its records name code that is
            not allowed.
        UserError: the data or the folder cannot be used.
        Interrupted, KeyboardInterrupt: a signal asked to stop; the same call resumes.
    """
    folder = folder.resolve()
    recorded = _recorded(folder)
    record = recorded.encoder[1]
    require_trusted(_named(recorded), allow_code, "--allow-code")
    _check_plugins(record, options.weights)
    run = folder.parents[2] if recorded.evaluation else folder.parents[1]
    out = options.out or run.parent / f"reproduce-{folder.name}"
    if out.resolve() == run:
        raise RunError(f"{out} holds what is to be reproduced; choose another --out")
    roots = options.roots or {name: Path(root) for name, root in (recorded.run.roots if recorded.run else {}).items()}
    processes = record.engine.processes if record.engine else 1
    options = replace(options, roots=roots, out=out, cache=None, devices=processes, fresh=False)
    evaluation = recorded.evaluation[1].recipe if recorded.evaluation else None
    outcome = execute(plan_of_record(record, evaluation, recorded.run, roots), options, progress)
    reason = next(iter(outcome.failures.values()), None)
    if reason is not None:
        return Reproduction(folder.name, out, reason, (), ())
    return _compared(folder.name, out, recorded)


def _recorded(folder: Path) -> _Recorded:
    """Read the records of the artifacts to make again."""
    if (folder / RECORDS[EncoderRecord]).is_file():
        plan = folder.parents[1] / PLAN
        run = read_plan(plan.parent) if plan.is_file() else None
        return _Recorded((folder, read_record(folder, EncoderRecord)), None, run)
    if not (folder / RECORDS[EvaluationRecord]).is_file():
        raise RunError(
            f"{folder} has neither {RECORDS[EncoderRecord]} nor {RECORDS[EvaluationRecord]}, so it is no complete "
            "encoder or evaluation; name a folder below RUN/encoders or RUN/evaluations"
        )
    record = read_record(folder, EvaluationRecord)
    path = folder.parents[2]
    run = read_plan(path)
    planned = run.encoders.get(record.encoder)
    if planned is None:
        raise RunError(f"{path / PLAN} does not name the encoder of {folder.name}; run its `ssl3d bench` command again")
    encoder = open_run(path).folder_of(EncoderRecord, planned.name)
    return _Recorded((encoder, read_record(encoder, EncoderRecord)), (folder, record), run)


def _named(recorded: _Recorded) -> list[Named]:
    """Return every plugin to import: the corpus leaves out the test cases of all data sets of the run."""
    recipes = [one.recipe for one in recorded.run.evaluations.values()] if recorded.run else []
    data: list[Named] = [("datasets", recipe.data) for recipe in recipes]
    own = named_by_evaluation(recorded.evaluation[1].recipe) if recorded.evaluation else []
    return [*named_by_encoder(recorded.encoder[1].recipe), *own, *data]


def _check_plugins(record: EncoderRecord, weights: Path | None) -> None:
    """Check that weights, and plugins given by file, are those that the encoder was made with."""
    recipe = record.recipe
    loaded = {"method": method_class(recipe.method), "backbone": backbone_class(recipe.backbone)}
    for role, reference in (("method", recipe.method), ("backbone", recipe.backbone)):
        kind = "methods" if role == "method" else "backbones"
        now = plugin_sources(kind, reference, loaded[role])  # type: ignore[arg-type]  # one of two kinds
        if ".py:" in reference and now != record.made_by.sources.get(role):
            raise RunError(f"{reference} was changed since {record.name} was made; put the old file back")
    if record.weights_sha256 is None:
        return
    found, problem = weights_hash(recipe, weights)
    if problem is not None:
        raise RunError(f"{record.name} started from pretrained weights, which cannot be had: {problem}")
    if found != record.weights_sha256:
        source = weights or (recipe.init.text if recipe.init else "the published file")
        raise RunError(
            f"{record.name} started from weights with the hash {record.weights_sha256[:10]}, and {source} has "
            f"{str(found)[:10]}; give the file that was used: --weights"
        )


def _compared(name: str, out: Path, recorded: _Recorded) -> Reproduction:
    again = _encoder_in(out, settled(recorded.encoder[1]))
    parts = [compare_encoders(recorded.encoder, again)]
    differs = list(circumstances(recorded.encoder[1], again[1]))
    if recorded.evaluation is not None:
        evaluation = _evaluation_in(out, recorded.evaluation[1], again[1].key)
        parts += compare_evaluations(recorded.evaluation, evaluation)
        differs += circumstances(recorded.evaluation[1], evaluation[1])
    return Reproduction(name, out, None, tuple(parts), tuple(dict.fromkeys(differs)))


def _encoder_in(out: Path, recipe: EncoderRecipe) -> Found:
    """Return the encoder with a recipe: the latest one, if plugins or data were changed between two calls."""
    found = [one for one in _records(RunFolder(out).encoders, "*", EncoderRecord) if one[1].recipe == recipe]
    return _latest(found, out)


def _evaluation_in(out: Path, record: EvaluationRecord, encoder: str) -> FoundEvaluation:
    found = _records(RunFolder(out).evaluations, "*/*", EvaluationRecord)
    return _latest([one for one in found if one[1].recipe == record.recipe and one[1].encoder == encoder], out)


def _records(folder: Path, pattern: str, kind: type[R]) -> Iterator[tuple[Path, R]]:
    for path in sorted(folder.glob(f"{pattern}/{RECORDS[kind]}")):
        record = find_record(path.parent, kind)
        if record is not None:
            yield path.parent, record


def _latest(found: list[tuple[Path, R]], out: Path) -> tuple[Path, R]:
    if not found:
        raise RunError(f"{out} does not hold what was made again; delete the folder and repeat the command")
    return max(found, key=lambda one: one[1].made_by.finished_at)
