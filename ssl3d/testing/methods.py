"""The rules for methods, and what applies them all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ssl3d.backbone import Backbone
from ssl3d.method import AnyMethod
from ssl3d.registry import load
from ssl3d.testing import declared, losses, momentum, splits, training, views
from ssl3d.testing.imports import begin_import
from ssl3d.testing.kit import MethodKit
from ssl3d.testing.modules import demand_same_state, demand_single_registration, one_thread
from ssl3d.testing.runner import Finding, Rule, raise_failures, require, run
from ssl3d.testing.shrink import describe


def check_method(
    method: str | type[AnyMethod],
    *,
    settings: Mapping[str, Any] | None = None,
    expected_failures: Mapping[str, str] | None = None,
) -> list[Finding]:
    """Check a method against its contract, on a toy backbone with tiny volumes; seconds on a CPU.

    Whole numbers above 64 in its settings (widths, queue sizes, numbers of prototypes) are made small.

    Args:
        method: the class, or a registered name, ``module:Class`` or ``path/to/file.py:Class``.
        settings: fields of its ``Config`` in place of the defaults; these stay as they are.
        expected_failures: reasons, by the names of the rules that this method is known to break.

    Returns:
        One finding per rule.

    Raises:
        UserError: the name is unknown, its import fails, a setting is wrong, or an expected failure names no rule.
    """
    kind: type[AnyMethod] = load("methods", method) if isinstance(method, str) else method
    begin_import(kind)
    kit = MethodKit(kind, settings)
    if settings:
        _ = kit.config  # wrong settings are the caller's fault, not the method's
    with one_thread():
        return run(kit, RULES, expected_failures)


def assert_method(
    method: str | type[AnyMethod],
    *,
    settings: Mapping[str, Any] | None = None,
    expected_failures: Mapping[str, str] | None = None,
) -> None:
    """Raise ConformanceError if a method breaks its contract: :func:`check_method`, for a test of one line."""
    findings = check_method(method, settings=settings, expected_failures=expected_failures)
    raise_failures(method if isinstance(method, str) else method.__name__, findings)


def check_it_builds(kit: MethodKit) -> str:
    """The method is built from its defaults around any backbone, and returns a backbone from encoder()."""
    missing = sorted(getattr(kit.kind, "__abstractmethods__", ()))
    require(not missing, f"{kit.kind.__name__} has no {' and no '.join(missing)}(); define it")
    encoder = kit.build().encoder()
    require(isinstance(encoder, Backbone), f"encoder() returns a {type(encoder).__name__}; return a Backbone")
    return describe(kit.kind.Config, kit.small)


def check_the_seed_decides_the_weights(kit: MethodKit) -> None:
    """The same seed builds the same weights."""
    demand_same_state(kit.build(seed=1), kit.build(seed=1))


def check_parameters_are_registered_once(kit: MethodKit) -> None:
    """No parameter is registered under two names."""
    demand_single_registration(kit.build())


_built = (check_it_builds,)
_viewed = (check_it_builds, views.check_views_have_the_right_shape)
_drawn = (*_viewed, views.check_views_draw_from_rng_alone)
_trained = (*_drawn, training.check_parameter_groups, training.check_it_trains)
_repeatable = (*_trained, losses.check_draws_are_keyed)  # else whatever compares two computations fails, too
_still = (*_repeatable, momentum.check_only_after_step_moves_state)
_split = (*_still, losses.check_loss_is_well_formed, views.check_views_do_not_depend_on_neighbours)
RULES: tuple[Rule[MethodKit], ...] = (
    Rule(declared.check_card),
    Rule(declared.check_config),
    Rule(declared.check_preset),
    Rule(check_it_builds),
    Rule(check_the_seed_decides_the_weights, _built),
    Rule(check_parameters_are_registered_once, _built),
    Rule(views.check_views_have_the_right_shape, _built),
    Rule(views.check_views_draw_from_rng_alone, _viewed),
    Rule(views.check_views_differ_between_steps, _drawn),
    Rule(views.check_views_leave_the_volumes, _viewed),
    Rule(views.check_views_do_not_depend_on_neighbours, _drawn),
    Rule(training.check_parameter_groups, _built),
    Rule(training.check_it_trains, (*_drawn, training.check_parameter_groups)),
    Rule(losses.check_embedding_has_one_vector_per_volume, _trained),
    Rule(losses.check_loss_is_well_formed, _trained),
    Rule(losses.check_draws_are_keyed, _trained),
    Rule(momentum.check_only_after_step_moves_state, _repeatable),
    Rule(losses.check_every_kind_of_task, _trained),
    Rule(training.check_every_parameter_learns, _trained),
    Rule(training.check_the_encoder_learns, _trained),
    Rule(splits.check_splits_agree, _split),
    Rule(training.check_a_short_batch_is_finite, _trained),
    Rule(training.check_bfloat16, _trained),
    Rule(training.check_state_survives, _repeatable),
    Rule(training.check_copies, _repeatable),
    Rule(momentum.check_momentum_starts_as_a_copy, _trained),
    Rule(momentum.check_momentum_never_trains, _trained),
    Rule(momentum.check_momentum_moves, _trained),
    Rule(momentum.check_momentum_follows, _trained),
    Rule(momentum.check_after_step_leaves_the_online_network, _trained),
    Rule(momentum.check_evaluation_moves_nothing, _still),
    Rule(declared.check_import),  # last: a fresh process has imported it meanwhile
)
