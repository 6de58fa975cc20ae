"""Loading encoders of finished runs for use elsewhere."""

from __future__ import annotations

import warnings
from pathlib import Path

from ssl3d.backbone import Backbone
from ssl3d.errors import RunError
from ssl3d.results.folder import PLAN, RECORDS, RunFolder
from ssl3d.results.model import EncoderRecord, EvaluationRecord
from ssl3d.results.read import open_run, read_plan
from ssl3d.results.records import read_model, read_record
from ssl3d.run.encoder import load_weights
from ssl3d.run.graph import plugin_sources
from ssl3d.run.trust import require_trusted
from ssl3d.train.build import backbone_class


def load_encoder(folder: str | Path, *, allow_code: bool = False) -> Backbone:
    """Return a pretrained encoder, float32, in evaluation mode, on the CPU.

    It takes standardised volumes (B, 1, D, H, W) and returns features (B, embed_dim). Record and weights are checked
    against their hashes. A backbone that the record names by file or module is imported only if ``allow_code`` is true:
    an encoder from someone else is data, not code.

    Args:
        folder: folder of an encoder, ``runs/NAME/encoders/ENCODER`` or a copy of it, or of one of its evaluations.
        allow_code: import the backbone even if the record names it by file or module.

    Raises:
        RunError: there is no encoder, its file is damaged or does not fit, or its backbone is code that is not
            allowed or whose file was edited since.
    """
    folder = Path(folder)
    if (folder / PLAN).is_file():
        raise RunError(f"{folder} is a run; name one of its encoders, below {RunFolder(folder).encoders}")
    if (folder / RECORDS[EvaluationRecord]).is_file():
        folder = _encoder_of(folder)
    record = read_model(folder / RECORDS[EncoderRecord], EncoderRecord)
    require_trusted([("backbones", record.recipe.backbone)], allow_code, "allow_code=True")
    _check_sources(folder, record)
    return load_weights(folder, record)


def _encoder_of(folder: Path) -> Path:
    """Return the folder of the encoder that an evaluation belongs to."""
    record = read_record(folder, EvaluationRecord)
    run = folder.resolve().parents[2]
    planned = read_plan(run).encoders.get(record.encoder)
    if planned is None:
        raise RunError(f"{run / PLAN} does not know the encoder of {folder}; run its `ssl3d bench` command again")
    return open_run(run).folder_of(EncoderRecord, planned.name)


def _check_sources(folder: Path, record: EncoderRecord) -> None:
    """Refuse a backbone whose own file was edited since; warn if a package's differs."""
    reference = record.recipe.backbone
    now, then = plugin_sources("backbones", reference, backbone_class(reference)), record.made_by.sources["backbone"]
    if now == then:
        return
    text = f"the source of backbone {reference!r} has changed since the encoder in {folder} was made"
    if ".py:" in reference:
        raise RunError(f"{text}; put the old file back, or run it again")
    warnings.warn(f"{text}; its features may differ", stacklevel=3)
