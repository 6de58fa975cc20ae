"""README.md of an encoder: description, training data, and how to load it. Loads no torch."""

from __future__ import annotations

from ssl3d.results.model import EncoderRecord


def model_card(record: EncoderRecord) -> str:
    """Return the card as Markdown."""
    recipe = record.recipe
    lines = [f"# {recipe.method} on {recipe.backbone}, seed {recipe.seed}", ""]
    lines += [_origin(record), ""]
    lines += ["```python", "import ssl3d", "", 'encoder = ssl3d.load_encoder("PATH_OF_THIS_FOLDER")', "```", ""]
    slices, rows, columns = recipe.view_size
    lines += [
        "It takes volumes (B, 1, D, H, W), each standardised by its own mean and deviation; its views have "
        f"{slices} slices of {rows} x {columns}.",
        "",
        f"- accumulation: {record.exactness}" + _error(record),
        *([f"- learning rate: {record.rate.lr:.6g}, chosen on the training split"] if record.rate else []),
        *([f"- pretrained weights: {record.weights}"] if record.weights else []),
        *([f"- these weights were published for input of {record.weights_input}"] if record.weights_input else []),
        *([f"- engine: {record.engine.sentence()}"] if record.engine else []),
        *_collapse(record),
        *(f"- departs from the paper: {text}" for text in record.departures),
        *(f"- note: {text}" for text in record.notes),
        f"- key: {record.key}, finished {record.made_by.finished_at}",
        "",
        "Everything else is in `encoder.json`.",
    ]
    return "\n".join(lines) + "\n"


def _origin(record: EncoderRecord) -> str:
    if record.corpus is None:
        return "Not trained: evaluated as it was built, or as its weights were published."
    corpus = record.corpus
    kind = " SYNTHETIC" if corpus.synthetic else ""
    labels = ", with their labels" if record.labels_used else ", without labels"
    why = f"; {corpus.excluded} were left out because they, or their patients, are tested on"
    left_out = why if corpus.excluded else ""
    return f"Pretrained on {corpus.volumes}{kind} volumes of {corpus.name}{labels}{left_out}."


def _error(record: EncoderRecord) -> str:
    if record.gradient_error is None:
        return ""
    return f" (relative error of the gradient, measured before training: {record.gradient_error:.1e})"


def _collapse(record: EncoderRecord) -> list[str]:
    collapsed = record.collapse.collapsed
    return [] if collapsed is None else [f"- collapsed: {'yes' if collapsed else 'no'}"]
