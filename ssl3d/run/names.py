"""The names of artifacts: in messages, and of their folders. Loads no torch."""

from __future__ import annotations

import re

from ssl3d.recipe import TRIAL_SEED, EncoderRecipe, EvaluationRecipe, LabelledPart, RateRecipe


def encoder_label(recipe: EncoderRecipe) -> str:
    """Return an encoder in words: "byol on tiny, seed 0, pretrained on mrnet sagittal"."""
    parts = [" ".join(filter(None, (part.data, part.plane))) for part in recipe.corpus]
    fold = next((f", fold {part.fold}" for part in recipe.corpus if part.folds), "")
    corpus = f", pretrained on {' + '.join(parts)}{fold}" if parts else ""
    labels = f" with the labels of {recipe.task}" if recipe.task else ""
    start = f", from {recipe.init.text}" if recipe.init is not None and parts else ""
    return f"{_of_encoder(recipe)}{start}{corpus}{labels}"


def features_label(encoder: EncoderRecipe, recipe: EvaluationRecipe | LabelledPart) -> str:
    """Return features in words: "byol on tiny, seed 0: features of mrnet sagittal"."""
    fold = f"fold {recipe.fold}" if recipe.folds and encoder.corpus else ""
    labels = f"trained with the labels of {encoder.task}" if encoder.task else ""
    return _below(encoder, f"features of {_where(recipe)}", fold, labels)


def rate_label(encoder: EncoderRecipe, recipe: RateRecipe) -> str:
    """Return a choice in words: "byol on tiny: learning rate for acl of mrnet sagittal, fold 1"."""
    parts = [f"{part.task} of {_where(part)}{f', fold {part.fold}' if part.folds else ''}" for part in recipe.parts]
    return f"{short(encoder.method)} on {short(encoder.backbone)}: learning rate for {'; '.join(parts)}"


def evaluation_label(encoder: EncoderRecipe, recipe: EvaluationRecipe) -> str:
    """Return an evaluation in words: "byol on tiny, seed 0: acl of mrnet sagittal, linear, labels=0.1 draw=2"."""
    fold = f"fold {recipe.fold}" if recipe.folds else ""
    return _below(encoder, f"{recipe.task} of {_where(recipe)}", fold, short(recipe.protocol), recipe.condition)


def _below(encoder: EncoderRecipe, *parts: str) -> str:
    return f"{_of_encoder(encoder)}: {', '.join(filter(None, parts))}"


def _of_encoder(recipe: EncoderRecipe) -> str:
    """Return "byol on tiny, seed 0"; for a trial of a learning rate "byol on tiny, trial of lr 0.0005"."""
    which = f"seed {recipe.seed}"
    if recipe.seed == TRIAL_SEED and recipe.pretrain is not None:
        which = f"trial of lr {recipe.pretrain.lr:.6g}"
    return f"{short(recipe.method)} on {short(recipe.backbone)}, {which}"


def _where(recipe: EvaluationRecipe | LabelledPart) -> str:
    return " ".join(filter(None, (recipe.data, recipe.plane)))


def short(reference: str) -> str:
    """Return the name of a plugin without its file: ``path/to/file.py:Class`` becomes ``Class``."""
    return reference.rpartition(":")[2] if ".py:" in reference else reference


def safe(reference: str) -> str:
    """Return a reference as part of a folder's name."""
    return re.sub(r"[^A-Za-z0-9_.]+", "_", short(reference))


def encoder_stem(recipe: EncoderRecipe) -> str:
    """Return the name of an encoder's folder without its key: "byol-tiny-s0", or "byol-tiny-trial"."""
    which = "trial" if recipe.seed == TRIAL_SEED else f"s{recipe.seed}"
    return f"{safe(recipe.method)}-{safe(recipe.backbone)}-{which}"
