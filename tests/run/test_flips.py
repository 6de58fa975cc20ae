"""Views are flipped as the data sets call sound, and the user hears where the settings say otherwise."""

from typing import Any

import pytest

from ssl3d.experiment import read_experiment
from ssl3d.recipe import AugmentRecipe
from ssl3d.run.planning.datasets import DataPlane, open_dataset
from ssl3d.run.planning.flips import flip_notes, with_flips
from ssl3d.run.planning.plan import Plan, make_plan


def data_plane(left_right: int | None = 2, sound: tuple[int, ...] = ()) -> DataPlane:
    dataset = open_dataset("demo")
    dataset.left_right, dataset.sound_flips = left_right, frozenset(sound)
    return DataPlane("demo", dataset)


def unset(*planes: DataPlane, **settings: Any) -> tuple[float, ...]:
    return with_flips(AugmentRecipe(**settings), planes, chosen=False).flip


def chosen(plane: DataPlane, *flip: float, **settings: Any) -> tuple[float, ...]:
    return with_flips(AugmentRecipe(flip=flip, **settings), [plane], chosen=True).flip  # type: ignore[arg-type]  # three


def plan(*sets: str, **given: Any) -> Plan:
    return make_plan(read_experiment(None, {"methods": ("byol", "byolmed3d"), **given}, sets))


def test_without_a_word_of_the_data_set_nothing_is_flipped() -> None:
    assert unset(data_plane()) == unset(data_plane(None)) == (0, 0, 0)
    assert AugmentRecipe().flip == (0, 0, 0)


def test_unset_flips_follow_the_data_set_and_several_need_the_word_of_all() -> None:
    assert unset(data_plane(2, (0, 2))) == (0.5, 0, 0.5)
    assert unset(data_plane(2, (0, 2)), data_plane(0, (1, 2))) == (0, 0, 0.5)
    assert unset(data_plane(2, (0,)), flip_left_right=True) == (0.5, 0, 0.5)


def test_chosen_flips_win_except_those_that_swap_left_and_right_unasked() -> None:
    assert chosen(data_plane(2), 0.1, 0.2, 0.3) == (0.1, 0.2, 0)
    assert chosen(data_plane(2), 0.1, 0.2, 0.3, flip_left_right=True) == (0.1, 0.2, 0.3)
    assert chosen(data_plane(2, (2,)), 0.1, 0.2, 0.3) == (0.1, 0.2, 0.3)
    assert chosen(data_plane(None), 0.1, 0.2, 0.3) == (0.1, 0.2, 0.3)


def test_the_user_is_told_what_goes_against_the_data_set() -> None:
    asked = read_experiment(None, {"augment.flip": (0.5, 0.5, 0.5)})
    name = data_plane().dataset.name
    against, dropped = flip_notes(asked, [data_plane(2, (0,))])
    assert against == f"augment.flip flips {name} along H, which the data set does not call sound"
    assert dropped.startswith(f"augment.flip is left out along W of {name}: it would swap left and right; set augment.")
    assert not [*flip_notes(asked, [data_plane(2, (0, 1, 2))])]
    assert not [*flip_notes(read_experiment(), [data_plane()])]


@pytest.mark.parametrize(
    ("plane", "flip"), [("sagittal", (0.5, 0, 0)), ("coronal", (0, 0, 0.5)), ("axial", (0, 0, 0.5))]
)
def test_knees_are_mirrored_to_the_other_knee(plane: str, flip: tuple[float, ...]) -> None:
    made = plan(**{"data.plane": (plane,), "evaluate.protocols": ("finetune",)})
    byol, preset = (
        next(one.recipe for one in made.requests if one.recipe.method == name) for name in ("byol", "byolmed3d")
    )
    assert byol.augment is not None
    assert preset.augment is not None
    assert byol.augment.flip == flip
    assert preset.augment.flip == (0, 0, 0)  # the preset says so
    assert all(one.augment and one.augment.flip == flip for request in made.requests for one in request.evaluations)
    assert not [note for note in made.notes if "flip" in note]


def test_a_plan_tells_of_flips_against_the_data_set() -> None:
    (note,) = (text for text in plan("flip=[0,0,0.5]").notes if "flip" in text)
    assert "demo (synthetic) sagittal along W" in note


def test_only_sets_without_orientation_are_flipped_everywhere() -> None:
    sound = {name: open_dataset(f"medmnist3d:{name}mnist3d").sound_flips for name in ("nodule", "organ", "adrenal")}
    assert sound == {"nodule": {0, 1, 2}, "organ": set(), "adrenal": set()}
