"""Which flips views may have: those that the data sets call sound, unless the user says otherwise."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ssl3d.experiment import Experiment
from ssl3d.recipe import AugmentRecipe
from ssl3d.run.planning.datasets import DataPlane

CHANCE = 0.5  # of a flip along a sound axis, where the recipe sets none
AXES = "DHW"


def with_flips(augment: AugmentRecipe, planes: Sequence[DataPlane], *, chosen: bool) -> AugmentRecipe:
    """Return augmentation with flips written out.

    Chosen flips stay as they are, except along the axis that swaps left and right: there they need the data set's word
    or ``flip_left_right``.

    Args:
        augment: settings.
        planes: data sets that the views are made of; a flip must suit all of them.
        chosen: whether the user, or the method's preset, has set ``flip``.
    """
    sound = frozenset.intersection(*(_sound(augment, one) for one in planes))
    swapped = frozenset(one.dataset.left_right for one in planes) - sound
    wanted = augment.flip if chosen else [CHANCE if axis in sound else 0.0 for axis in range(3)]
    flip = tuple(0.0 if axis in swapped else chance for axis, chance in enumerate(wanted))
    return augment.model_copy(update={"flip": flip})


def flip_notes(experiment: Experiment, planes: Sequence[DataPlane]) -> Iterator[str]:
    """Yield one sentence per data set for which the user's flips are not known to be sound."""
    if "flip" not in experiment.augment.model_fields_set:
        return
    for one in planes:
        against = {axis for axis, chance in enumerate(experiment.augment.flip) if chance} - _sound(
            experiment.augment, one
        )
        dropped = against & {one.dataset.left_right}
        if against - dropped:
            yield (
                f"augment.flip flips {one.dataset.name} along {_named(against - dropped)}, which the data set does not "
                "call sound"
            )
        if dropped:
            yield (
                f"augment.flip is left out along {_named(dropped)} of {one.dataset.name}: it would swap left and "
                "right; set augment.flip_left_right = true to have it"
            )


def _sound(augment: AugmentRecipe, data_plane: DataPlane) -> frozenset[int]:
    """Return the axes along which flips suit a data set: by its word, or by the user's about left and right."""
    dataset = data_plane.dataset
    asked = {dataset.left_right} if augment.flip_left_right and dataset.left_right is not None else set()
    return frozenset(dataset.sound_flips | asked)


def _named(axes: set[int]) -> str:
    return " and ".join(AXES[axis] for axis in sorted(axes))
