"""Results of earlier schema versions, brought up to the present one; what they lack is said."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

LACKING: Mapping[int, str] = {
    1: "written under schema version 1: it has no engine (the recipe's own settings hold), no label curves and no hash "
    "of its encoder",
}


def upgraded(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of a result.json of any known version in the fields of the present one.

    Version 1 had one name for the inner folds, one view of each test volume in fine-tuning, and one learning rate.

    Args:
        content: as it was written, of version 1 or 2.
    """
    if content.get("schema_version") != 1:
        return dict(content)
    recipe = content.get("recipe")
    evaluate = recipe.get("evaluate") if isinstance(recipe, dict) else None
    if not isinstance(recipe, dict) or not isinstance(evaluate, dict):
        return {**content, "schema_version": 2}  # validation says what is wrong
    renamed = {"inner_folds" if name == "folds" else name: value for name, value in evaluate.items()}
    recipe = {**recipe, "evaluate": {"finetune_crops": 1, **renamed}}
    return {**content, "schema_version": 2, "recipe": recipe}
