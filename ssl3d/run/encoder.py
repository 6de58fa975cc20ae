"""One encoder: built, pretrained if its method trains, written with its record, and loaded with its hash checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from safetensors import SafetensorError
from safetensors.torch import load, save

from ssl3d.backbone import Backbone
from ssl3d.data.corpus import Corpus
from ssl3d.errors import RunError, UserError
from ssl3d.files import LOG, make_folder, write_atomic
from ssl3d.method import AnyMethod
from ssl3d.recipe import EncoderRecipe, digest
from ssl3d.results.folder import MODEL_CARD, WEIGHTS
from ssl3d.results.lease import Lease, Leases
from ssl3d.results.model import ChosenRate, CorpusRecord, EncoderRecord, PlannedEncoder, Price
from ssl3d.results.model_card import model_card
from ssl3d.results.provenance import made_by
from ssl3d.results.records import find_record, read_file, read_record, sound, write_record
from ssl3d.run.artifact import Artifact, Context
from ssl3d.run.devices import device_name, open_device
from ssl3d.run.planning.rates import with_rate
from ssl3d.run.pretraining import Made, Pretraining, pretrained
from ssl3d.train import checkpoint
from ssl3d.train.build import build_backbone, build_method
from ssl3d.weights.load import PARTIAL

if TYPE_CHECKING:
    from ssl3d.results.rate_record import RateRecord
    from ssl3d.run.rate import Rate


@dataclass(frozen=True)
class Encoder:
    """An encoder that a run needs.

    Attributes:
        planned: its key, name, recipe and sources.
        fold: fold of the evaluated data sets; their test cases are excluded from pretraining.
        corpus: corpus that it is pretrained on; None if it is not.
        label: name in messages.
        rate: choice of its learning rate; None if that is the recipe's.
        weights_sha256: hash of the weights that it starts from; None if there are none.
        distributions: packages that its plugins come from.
        problem: why it cannot be made, if known.
    """

    planned: PlannedEncoder
    fold: int
    corpus: Corpus | None
    label: str
    rate: Rate | None = None
    weights_sha256: str | None = None
    distributions: tuple[str, ...] = ()
    problem: UserError | None = None
    kind: ClassVar[Literal["encoder"]] = "encoder"

    @property
    def key(self) -> str:
        """Hash of everything that decides it."""
        return self.planned.key

    @property
    def name(self) -> str:
        """Name of its folder."""
        return self.planned.name

    @property
    def needs(self) -> Sequence[Artifact]:
        """The choice of its learning rate, if there is one."""
        return () if self.rate is None else (self.rate,)

    @property
    def recipe(self) -> EncoderRecipe:
        """Its recipe."""
        return self.planned.recipe

    def folder(self, context: Context) -> Path:
        """Return the folder in which it is kept."""
        return context.folder.folder_of(EncoderRecord, self.name)

    def leases(self, context: Context) -> Leases:
        """Return the leases of encoders."""
        return context.leases(context.folder.shared_leases)

    def record(self, context: Context) -> EncoderRecord | None:
        """Return its record; None if the encoder is not complete."""
        return find_record(self.folder(context), EncoderRecord, key=self.key)

    def is_complete(self, context: Context) -> bool:
        """Return whether record, weights and log are complete and undamaged, and made with the current choices."""
        record = self.record(context)
        if self.rate is not None and (record is None or record.rate != _chosen(self.rate.record(context))):
            return False
        return record is not None and WEIGHTS in record.files and sound(self.folder(context), record)

    def make(self, context: Context, lease: Lease) -> str:
        """Build it, pretrain it from its last checkpoint, and write it."""
        if self.problem is not None:
            raise self.problem
        folder = self.folder(context)
        make_folder(folder)
        corpus = self.corpus
        task, volumes = (None, None) if corpus is None else (corpus.task, len(corpus))
        method = build_method(self.recipe, context.options.weights, task=task, volumes=volumes)
        loaded = method.backbone.loaded
        if loaded is not None:
            context.progress.note(f"{self.label}: starts from {loaded}")
        fabric = open_device(context.options.device, self._precision)
        method.to(fabric.device)
        made = Made(Price(device=device_name(fabric.device)))
        rate = self.rate.record(context) if self.rate else None
        if corpus is not None:
            what = Pretraining(_with_rate(self.planned, rate), self.fold, corpus, folder, self.label)
            made = _priced(pretrained(what, method, fabric, context.options, context.progress), rate)
        state = {name: value.detach().cpu().contiguous() for name, value in _encoder(method).state_dict().items()}
        record = EncoderRecord(
            key=self.key,
            name=self.name,
            made_by=made_by(self.planned.sources, self.distributions),
            notes=(*_started_from(self.recipe, loaded), *made.notes),
            recipe=self.recipe,
            corpus=None if corpus is None else _corpus_record(corpus),
            weights=loaded,
            weights_sha256=self.weights_sha256,
            weights_input=_published_input(self.recipe, method.backbone),
            rate=_chosen(rate),
            labels_used=self.recipe.task is not None,
            exactness=made.measured.exactness if made.measured else "not trained",
            gradient_error=made.measured.error if made.measured else None,
            departures=(*method.card.departures, *_of_backbone(self.recipe.backbone, method.backbone)),
            resolved=method.resolved,
            engine=made.engine,
            collapse=made.collapse,
            price=made.price,
        )
        lease.require()
        write_atomic(folder / MODEL_CARD, model_card(record))  # meant to be edited, so not among the checked files
        weights = save(state, metadata={"recipe": self.recipe.canonical()})
        write_record(folder, record, {WEIGHTS: weights}, also=[LOG] if corpus else [])
        checkpoint.remove(folder)
        return _outcome(made)

    def restore_card(self, context: Context) -> None:
        """Write the model card of a finished encoder again if it was deleted.

        Raises:
            RunError: the folder cannot be written.
        """
        path = self.folder(context) / MODEL_CARD
        record = None if path.exists() else self.record(context)
        if record is None:
            return
        with self.leases(context).hold(self.key) as lease:
            if lease is not None:  # a worker that holds it makes the whole encoder again
                write_atomic(path, model_card(record))

    @property
    def _precision(self) -> str:
        return self.recipe.pretrain.precision if self.recipe.pretrain else "32-true"


def load_weights(folder: Path, record: EncoderRecord) -> Backbone:
    """Return the network of an encoder, float32, in evaluation mode, on the CPU.

    Raises:
        DamagedError: its file is missing or was changed.
        RunError: the file does not fit the network that its current plugins build.
    """
    data = read_file(folder, record, WEIGHTS)
    encoder = build_backbone(record.recipe, initialise=False)
    try:
        encoder.load_state_dict(load(data))
    except (SafetensorError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise RunError(f"{folder / WEIGHTS} does not fit {record.recipe.backbone!r} as it is now ({reason})") from None
    return encoder.eval()


def loaded_encoder(encoder: Encoder, context: Context) -> tuple[Backbone, EncoderRecord]:
    """Return the network of a complete encoder on the context's device, and its record; the last one is cached.

    Raises:
        DamagedError: it is not complete, or its file was changed.
    """
    folder = encoder.folder(context)
    record = read_record(folder, EncoderRecord)
    digest = record.files[WEIGHTS]
    if context.encoder is None or context.encoder[0] != digest:
        context.encoder = None  # frees its memory before the next one is loaded
        device = open_device(context.options.device, "32-true").device
        context.encoder = digest, load_weights(folder, record).to(device)
    return context.encoder[1], record


def _started_from(recipe: EncoderRecipe, loaded: str | None) -> list[str]:
    """Return what the reader of a row should know of weights: that training went on from them, or lacked a part."""
    if loaded is None or recipe.init is None or (recipe.pretrain is None and PARTIAL not in loaded):
        return []
    return [f"started from {loaded}"]


def _published_input(recipe: EncoderRecipe, backbone: Backbone) -> str | None:
    init = recipe.init
    return backbone.weights[init.name].input if init is not None and init.sha256 is None else None


def _chosen(rate: RateRecord | None) -> ChosenRate | None:
    return None if rate is None else ChosenRate(key=rate.key, factor=rate.factor, lr=rate.lr)


def _with_rate(planned: PlannedEncoder, rate: RateRecord | None) -> PlannedEncoder:
    """Return what to train: with the chosen learning rate, and a key of its own for the checkpoint."""
    if rate is None:
        return planned
    recipe = with_rate(planned.recipe, rate.factor)
    return planned.model_copy(update={"recipe": recipe, "key": digest([planned.key, rate.lr])})


def _priced(made: Made, rate: RateRecord | None) -> Made:
    """Return the report with the cost of choosing the learning rate, and what is to be said of the choice."""
    if rate is None:
        return made
    price = made.price.model_copy(update={"tuning_seconds": rate.seconds, "tuning_flops": rate.flops})
    return replace(made, price=price, notes=(*made.notes, *rate.notes))


def _encoder(method: AnyMethod) -> Backbone:
    return method.encoder().float().eval()


def _of_backbone(name: str, backbone: Backbone) -> list[str]:
    """Return the departures of a backbone, each after its name."""
    return [f"{name}: {sentence}" for sentence in backbone.card.departures]


def _corpus_record(corpus: Corpus) -> CorpusRecord:
    return CorpusRecord(
        name=corpus.name,
        synthetic=corpus.synthetic,
        fingerprint=corpus.fingerprint,
        volumes=len(corpus),
        excluded=corpus.excluded,
    )


def _outcome(made: Made) -> str:
    if made.price.pretrain_seconds is None:
        return "not trained"
    collapse = ", COLLAPSED" if made.collapse.collapsed else ""
    return f"pretrained in {made.price.pretrain_seconds:.0f} s{collapse}"
