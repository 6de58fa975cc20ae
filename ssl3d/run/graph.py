"""From a plan and its packed volumes to artifacts with keys: encoders, their features, and their evaluations."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from ssl3d.errors import DataError
from ssl3d.evaluate.checks import check_targets
from ssl3d.evaluate.subsets import Condition, conditions
from ssl3d.protocol import FeatureProtocol
from ssl3d.recipe import EncoderRecipe, EvaluationRecipe, LabelledPart, RateRecipe, Size, digest
from ssl3d.registry import Kind, plugins, split_variant
from ssl3d.results.folder import SHORT, RunFolder
from ssl3d.results.keys import encoder_key, evaluation_key, features_key, rate_key
from ssl3d.results.model import ArtifactRecord, EncoderRecord, PlannedEncoder, PlannedEvaluation, PlannedRate
from ssl3d.results.rate_record import RateRecord
from ssl3d.results.records import find_record
from ssl3d.results.sources import sources_hash
from ssl3d.run.artifact import Artifact, Context
from ssl3d.run.encoder import Encoder
from ssl3d.run.evaluation import Evaluation, Labelled
from ssl3d.run.features import Features
from ssl3d.run.names import encoder_label, encoder_stem, evaluation_label, features_label, rate_label, safe
from ssl3d.run.options import Options
from ssl3d.run.planning.initial import overlap
from ssl3d.run.planning.plan import Plan, Request, protocol_class
from ssl3d.run.planning.rates import trials
from ssl3d.run.rate import Rate, TrainingCases, Tried
from ssl3d.run.volumes import PackedVolumes
from ssl3d.run.weights import weights_hash
from ssl3d.train.build import backbone_class, method_class

T = TypeVar("T")


@dataclass(frozen=True)
class Graph:
    """Artifacts by key, each after the artifacts that it is made from."""

    artifacts: tuple[Artifact, ...]

    @cached_property
    def encoders(self) -> dict[str, Encoder]:
        """Encoders by key, without trials of learning rates."""
        found = (one for one in self.artifacts if isinstance(one, Encoder))
        return {one.key: one for one in found if one.key not in self.trials}

    @cached_property
    def rates(self) -> dict[str, Rate]:
        """Choices of learning rates by key."""
        return {one.key: one for one in self.artifacts if isinstance(one, Rate)}

    @cached_property
    def trials(self) -> frozenset[str]:
        """Keys of trials of learning rates, and of their features."""
        return frozenset(one.key for rate in self.rates.values() for one in rate.needs)

    @cached_property
    def evaluations(self) -> dict[str, Evaluation]:
        """Evaluations by key."""
        return {one.key: one for one in self.artifacts if isinstance(one, Evaluation)}

    def only(self, keys: Iterable[str]) -> Graph:
        """Return the artifacts with these keys, and those that they are made from."""
        wanted = set(keys)
        for artifact in reversed(self.artifacts):
            if artifact.key in wanted:
                wanted |= {other.key for other in artifact.needs}
        return Graph(tuple(artifact for artifact in self.artifacts if artifact.key in wanted))

    def to_make(self, context: Context) -> Graph:
        """Return the artifacts without trials of learning rates that are chosen: these may be deleted, or diverged."""
        open_ = (one for rate in self.rates.values() if not rate.is_complete(context) for one in rate.needs)
        spent = self.trials - {one.key for one in open_}
        return Graph(tuple(artifact for artifact in self.artifacts if artifact.key not in spent))


def make_graph(plan: Plan, volumes: PackedVolumes, folder: RunFolder, options: Options, fetch: bool = True) -> Graph:
    """Return the artifacts that a plan needs, with their keys.

    Args:
        plan: plan of the run.
        volumes: packed volumes of its data sets.
        folder: folder of the run; an encoder found in the cache under another name keeps that name.
        options: their local file of weights is used.
        fetch: download published weights that are missing, as far as the plan needs them.

    Raises:
        DataError: a task has too few labels, or a corpus has no volumes.
    """
    return _Builder(plan, volumes, folder, options, fetch).graph()


@dataclass
class _Builder:
    """A graph under construction."""

    plan: Plan
    volumes: PackedVolumes
    folder: RunFolder
    options: Options
    fetch: bool
    _known: dict[object, object] = field(default_factory=dict)

    def graph(self) -> Graph:
        encoders: dict[str, Encoder] = {}
        below: dict[str, list[Artifact]] = {}
        for request in self.plan.requests:
            rate = self._rate(request)
            made = self._encoder(request.recipe, request.fold, rate)
            encoder = encoders.setdefault(made.key, made)
            artifacts = below.setdefault(made.key, [*(rate.needs if rate else ()), *encoder.needs, encoder])
            for recipe in request.evaluations:
                for evaluation in self._evaluations(encoder, recipe):
                    artifacts += [one for one in (evaluation.features, evaluation) if one is not None]
        return Graph(tuple({one.key: one for artifacts in below.values() for one in artifacts}.values()))

    def _encoder(self, recipe: EncoderRecipe, fold: int, rate: Rate | None = None) -> Encoder:
        kind, network = method_class(recipe.method), backbone_class(recipe.backbone)
        corpus = None
        if kind.trains:
            parts = tuple(part.model_dump_json() for part in recipe.corpus)
            corpus = self._once(
                ("corpus", parts, fold, kind.needs, recipe.task),
                lambda: self.volumes.corpus(recipe, fold, kind.needs),
            )
        sources = {
            "method": self._sources("methods", recipe.method, kind),
            "backbone": self._sources("backbones", recipe.backbone, network),
        }
        weights, problem = self._once(
            ("weights", network, recipe.backbone, recipe.init),
            lambda: weights_hash(recipe, self.options.weights, self.fetch),
        )
        fingerprint = None if corpus is None else self._once((id(corpus), "hash"), lambda: corpus.fingerprint)
        chosen = None if rate is None else rate.key
        key = encoder_key(recipe, corpus=fingerprint, sources=sources, weights=weights, rate=chosen)
        name = self._name(self.folder.encoders, EncoderRecord, encoder_stem(recipe), key)
        return Encoder(
            planned=PlannedEncoder(key=key, name=name, recipe=recipe, sources=sources, rate=chosen),
            fold=fold,
            corpus=corpus,
            label=encoder_label(recipe),
            rate=rate,
            weights_sha256=None if problem else weights,
            distributions=_distributions(("methods", recipe.method), ("backbones", recipe.backbone)),
            problem=problem,
        )

    def _rate(self, request: Request) -> Rate | None:
        """Return the choice of an encoder's learning rate, which all seeds share; None if it is the recipe's."""
        recipe, tried = request.rate, trials(request.recipe)
        if recipe is None:
            return None
        which = ("rate", recipe, request.fold, *(trial.canonical() for trial in tried))
        return self._once(which, lambda: self._new_rate(recipe, tried, request.fold))

    def _new_rate(self, recipe: RateRecipe, tried: Sequence[EncoderRecipe], fold: int) -> Rate:
        encoders = [self._encoder(trial, fold) for trial in tried]
        cases = tuple(self._training_cases(part) for part in recipe.parts)
        key = rate_key(recipe, trials=[one.key for one in encoders], data=[one.fingerprint for one in cases])
        stem = encoder_stem(tried[0]).replace("-trial", "-lr")
        planned = PlannedRate(
            key=key,
            name=self._name(self.folder.rates, RateRecord, stem, key),
            recipe=recipe,
            trials=tuple(one.planned for one in encoders),
        )
        found = [
            Tried(
                encoder,
                tuple(self._features(encoder, part, recipe.view_size, recipe.batch_size) for part in recipe.parts),
            )
            for encoder in encoders
        ]
        return Rate(planned, rate_label(tried[0], recipe), tuple(found), cases)

    def _training_cases(self, part: LabelledPart) -> TrainingCases:
        which = ("training cases", part)
        view = self.volumes.view(part.data, part.plane, part.folds, part.fold)
        return self._once(which, lambda: TrainingCases.of(view, part.task))

    def _evaluations(self, encoder: Encoder, whole: EvaluationRecipe) -> Iterator[Evaluation]:
        """Yield an evaluation with all training labels, and those with the requested subsets of labels."""
        where = (whole.data, whole.plane, whole.folds, whole.fold)
        cases = self._once(("cases", *where, whole.task), lambda: self._cases(whole))
        kind = protocol_class(whole.protocol)
        sources = {"protocol": self._sources("protocols", whole.protocol, kind)}
        features = None
        if issubclass(kind, FeatureProtocol):
            features = self._features(encoder, whole, whole.view_size, whole.batch_size)
        chosen = self.plan.experiment.evaluate
        parts = [Condition(whole.labels, whole.positives, whole.draw)]
        if not whole.condition and encoder.recipe.task is None:  # else it names a subset, or has seen every label
            parts = conditions(cases.train_y, cases.train_patients, cases.task, chosen)
        for part in parts:
            values = {"labels": part.labels, "positives": part.positives, "draw": part.draw}
            recipe = whole.model_copy(update=values)
            key = evaluation_key(recipe, encoder=encoder.key, data=cases.fingerprint, sources=sources)
            below = "-".join(safe(text) for text in (recipe.data, recipe.plane, recipe.task) if text)
            name = f"{encoder_stem(encoder.recipe)}-{safe(recipe.protocol)}-{key[:SHORT]}"
            planned = PlannedEvaluation(key=key, name=f"{below}/{name}", recipe=recipe, encoder=encoder.key)
            label = evaluation_label(encoder.recipe, recipe)
            distributions = _distributions(("protocols", recipe.protocol))
            dataset = self.plan.data_plane(recipe.data, recipe.plane).dataset
            seen = overlap(encoder.recipe.init, recipe.data, dataset)
            yield Evaluation(planned, label, encoder, features, cases, kind, sources, distributions, seen)

    def _cases(self, recipe: EvaluationRecipe) -> Labelled:
        """Return the cases of a task, after checking that they can be learnt from."""
        view = self.volumes.view(recipe.data, recipe.plane, recipe.folds, recipe.fold)
        if recipe.folds is not None:
            self.volumes.check_folds(recipe.data, recipe.plane, recipe.task, recipe.folds)
        cases = Labelled.of(view, recipe.task)
        for split, found in (("training", cases.train), ("test", cases.test)):
            if not found:
                raise DataError(
                    f"{view.name}: no volume of the {split} split has a target for {recipe.task!r}; add some, or name "
                    "another --task"
                )
        check_targets(cases.train_y, cases.task)
        return cases

    def _features(
        self, encoder: Encoder, recipe: EvaluationRecipe | LabelledPart, view_size: Size, batch_size: int
    ) -> Features:
        store = self.volumes.stores[recipe.data, recipe.plane]
        content = self._once((id(store), "voxels"), lambda: store.voxel_fingerprint)
        key = features_key(encoder.key, volumes=content, view_size=view_size, batch_size=batch_size)
        below = "-".join(safe(text) for text in (recipe.data, recipe.plane) if text)
        name = f"{below}-{encoder.name.rpartition('-')[0]}"  # name of the encoder, without its key
        label = features_label(encoder.recipe, recipe)
        return Features(key, f"{name}-{key[:SHORT]}", label, encoder, store, view_size, batch_size)

    def _name(self, parent: Path, kind: type[ArtifactRecord], stem: str, key: str) -> str:
        """Return the name of an artifact's folder: its name in the cache, if it is there."""
        for folder in sorted(parent.glob(f"*-{key[:SHORT]}")):
            if find_record(folder, kind, key=key) is not None:
                return folder.name
        return f"{stem}-{key[:SHORT]}"

    def _sources(self, kind: Kind, reference: str, plugin: type) -> str:
        return self._once(("sources", plugin, reference), lambda: plugin_sources(kind, reference, plugin))

    def _once(self, what: object, make: Callable[[], T]) -> T:
        """Return the cached value of ``what``, or make it."""
        if what not in self._known:
            self._known[what] = make()
        return self._known[what]  # type: ignore[return-value]  # what `make` returns


def plugin_sources(kind: Kind, reference: str, plugin: type) -> str:
    """Return the hash of a plugin's sources, and of its variant."""
    variant = split_variant(kind, reference)[1]
    return sources_hash(plugin) if variant is None else digest([sources_hash(plugin), variant])


def _distributions(*plugged: tuple[Kind, str]) -> tuple[str, ...]:
    """Return the packages that registered plugins come from."""
    found = [plugins(kind).get(split_variant(kind, reference)[0]) for kind, reference in plugged]
    return tuple(dict.fromkeys(plugin.distribution for plugin in found if plugin is not None))
