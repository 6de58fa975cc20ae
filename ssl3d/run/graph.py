"""From a plan and its packed volumes to artifacts with keys: encoders, their features, and their evaluations."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeVar

from ssl3d.errors import DataError
from ssl3d.evaluate.checks import check_targets
from ssl3d.evaluate.subsets import Condition, conditions
from ssl3d.protocol import FeatureProtocol
from ssl3d.recipe import EncoderRecipe, EvaluationRecipe, digest
from ssl3d.registry import Kind, plugins, split_variant
from ssl3d.results.folder import SHORT, RunFolder
from ssl3d.results.keys import encoder_key, evaluation_key, features_key
from ssl3d.results.model import EncoderRecord, PlannedEncoder, PlannedEvaluation
from ssl3d.results.records import find_record
from ssl3d.results.sources import sources_hash
from ssl3d.run.artifact import Artifact
from ssl3d.run.encoder import Encoder
from ssl3d.run.evaluation import Evaluation, Labelled
from ssl3d.run.features import Features
from ssl3d.run.options import Options
from ssl3d.run.planning.plan import Plan, Request, protocol_class
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
        """Encoders by key."""
        return {one.key: one for one in self.artifacts if isinstance(one, Encoder)}

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
            made = self._encoder(request)
            encoder = encoders.setdefault(made.key, made)
            artifacts = below.setdefault(made.key, [encoder])
            for recipe in request.evaluations:
                for evaluation in self._evaluations(encoder, recipe):
                    artifacts += [one for one in (evaluation.features, evaluation) if one is not None]
        return Graph(tuple({one.key: one for artifacts in below.values() for one in artifacts}.values()))

    def _encoder(self, request: Request) -> Encoder:
        recipe = request.recipe
        kind, network = method_class(recipe.method), backbone_class(recipe.backbone)
        corpus = None
        if kind.trains:
            parts = tuple(part.model_dump_json() for part in recipe.corpus)
            corpus = self._once(
                ("corpus", parts, request.fold, kind.needs, recipe.task),
                lambda: self.volumes.corpus(recipe, request.fold, kind.needs),
            )
        sources = {
            "method": self._sources("methods", recipe.method, kind),
            "backbone": self._sources("backbones", recipe.backbone, network),
        }
        weights, problem = self._once(
            ("weights", kind, network, recipe.backbone), lambda: weights_hash(recipe, self.options.weights, self.fetch)
        )
        fingerprint = None if corpus is None else self._once((id(corpus), "hash"), lambda: corpus.fingerprint)
        key = encoder_key(recipe, corpus=fingerprint, sources=sources, weights=weights)
        planned = PlannedEncoder(key=key, name=self._name(recipe, key), recipe=recipe, sources=sources)
        return Encoder(
            planned=planned,
            fold=request.fold,
            corpus=corpus,
            label=encoder_label(recipe),
            weights_sha256=None if problem else weights,
            distributions=_distributions(("methods", recipe.method), ("backbones", recipe.backbone)),
            problem=problem,
        )

    def _evaluations(self, encoder: Encoder, whole: EvaluationRecipe) -> Iterator[Evaluation]:
        """Yield an evaluation with all training labels, and those with the requested subsets of labels."""
        where = (whole.data, whole.plane, whole.folds, whole.fold)
        cases = self._once(("cases", *where, whole.task), lambda: self._cases(whole))
        kind = protocol_class(whole.protocol)
        sources = {"protocol": self._sources("protocols", whole.protocol, kind)}
        features = self._features(encoder, whole) if issubclass(kind, FeatureProtocol) else None
        chosen = self.plan.experiment.evaluate
        parts = [Condition(whole.labels, whole.positives, whole.draw)]
        if not whole.condition:  # a condition would itself name a subset
            parts = conditions(cases.train_y, cases.train_patients, cases.task, chosen)
        for part in parts:
            values = {"labels": part.labels, "positives": part.positives, "draw": part.draw}
            recipe = whole.model_copy(update=values)
            key = evaluation_key(recipe, encoder=encoder.key, data=cases.fingerprint, sources=sources)
            below = "-".join(safe(text) for text in (recipe.data, recipe.plane, recipe.task) if text)
            method, backbone = safe(encoder.recipe.method), safe(encoder.recipe.backbone)
            name = f"{method}-{backbone}-s{encoder.recipe.seed}-{safe(recipe.protocol)}-{key[:SHORT]}"
            planned = PlannedEvaluation(key=key, name=f"{below}/{name}", recipe=recipe, encoder=encoder.key)
            label = evaluation_label(encoder.recipe, recipe)
            distributions = _distributions(("protocols", recipe.protocol))
            yield Evaluation(planned, label, encoder, features, cases, kind, sources, distributions)

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

    def _features(self, encoder: Encoder, recipe: EvaluationRecipe) -> Features:
        store = self.volumes.stores[recipe.data, recipe.plane]
        content = self._once((id(store), "voxels"), lambda: store.voxel_fingerprint)
        key = features_key(encoder.key, volumes=content, view_size=recipe.view_size, batch_size=recipe.batch_size)
        below = "-".join(safe(text) for text in (recipe.data, recipe.plane) if text)
        name = f"{below}-{encoder.name.rpartition('-')[0]}"  # name of the encoder, without its key
        label = features_label(encoder.recipe, recipe)
        return Features(key, f"{name}-{key[:SHORT]}", label, encoder, store, recipe.view_size, recipe.batch_size)

    def _name(self, recipe: EncoderRecipe, key: str) -> str:
        """Return the name of an encoder's folder: its name in the cache, if it is there."""
        for folder in sorted(self.folder.encoders.glob(f"*-{key[:SHORT]}")):
            if find_record(folder, EncoderRecord, key=key) is not None:
                return folder.name
        return f"{safe(recipe.method)}-{safe(recipe.backbone)}-s{recipe.seed}-{key[:SHORT]}"

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


def encoder_label(recipe: EncoderRecipe) -> str:
    """Return an encoder in words: "byol on tiny, seed 0, pretrained on mrnet sagittal"."""
    parts = [" ".join(filter(None, (part.data, part.plane))) for part in recipe.corpus]
    fold = next((f", fold {part.fold}" for part in recipe.corpus if part.folds), "")
    corpus = f", pretrained on {' + '.join(parts)}{fold}" if parts else ""
    labels = f" with the labels of {recipe.task}" if recipe.task else ""
    return f"{short(recipe.method)} on {short(recipe.backbone)}, seed {recipe.seed}{corpus}{labels}"


def features_label(encoder: EncoderRecipe, recipe: EvaluationRecipe) -> str:
    """Return features in words: "byol on tiny, seed 0: features of mrnet sagittal"."""
    fold = f"fold {recipe.fold}" if recipe.folds and encoder.corpus else ""
    labels = f"trained with the labels of {encoder.task}" if encoder.task else ""
    return _below(encoder, f"features of {_where(recipe)}", fold, labels)


def evaluation_label(encoder: EncoderRecipe, recipe: EvaluationRecipe) -> str:
    """Return an evaluation in words: "byol on tiny, seed 0: acl of mrnet sagittal, linear, labels=0.1 draw=2"."""
    fold = f"fold {recipe.fold}" if recipe.folds else ""
    return _below(encoder, f"{recipe.task} of {_where(recipe)}", fold, short(recipe.protocol), recipe.condition)


def _below(encoder: EncoderRecipe, *parts: str) -> str:
    name = f"{short(encoder.method)} on {short(encoder.backbone)}, seed {encoder.seed}"
    return f"{name}: {', '.join(filter(None, parts))}"


def _where(recipe: EvaluationRecipe) -> str:
    return " ".join(filter(None, (recipe.data, recipe.plane)))


def short(reference: str) -> str:
    """Return the name of a plugin without its file: ``path/to/file.py:Class`` becomes ``Class``."""
    return reference.rpartition(":")[2] if ".py:" in reference else reference


def safe(reference: str) -> str:
    """Return a reference as part of a folder's name."""
    return re.sub(r"[^A-Za-z0-9_.]+", "_", short(reference))


def _distributions(*plugged: tuple[Kind, str]) -> tuple[str, ...]:
    """Return the packages that registered plugins come from."""
    found = [plugins(kind).get(split_variant(kind, reference)[0]) for kind, reference in plugged]
    return tuple(dict.fromkeys(plugin.distribution for plugin in found if plugin is not None))
