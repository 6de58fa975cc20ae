"""What to do next: numbers from the variance of seeds and patients, and only where they help."""

from __future__ import annotations

import re

from ssl3d.evaluate.statistics.design import width
from ssl3d.report.next_steps import CAUTION, needed, next_steps
from ssl3d.report.tables.pairs import paired
from ssl3d.results.results import Evaluated
from ssl3d.tables.standings import estimate_of
from tests.records import evaluated, results
from tests.report.pages import of_kind, read


def test_seeds_that_vary_are_named_and_the_promised_number_of_them_halves_the_interval() -> None:
    run = read(results(*(evaluated("byol", seed, strength) for seed, strength in enumerate((1.0, 1.6, 2.4)))))
    (sentence, caution) = next_steps(run)
    assert caution == CAUTION
    more = re.search(r" (\d+) more seeds? would halve it\.$", sentence)
    assert more is not None
    (entry,) = run.tables.entries
    of = estimate_of(entry)
    assert width(of, 3 + int(more[1])) <= width(of) / 2 < width(of, 2 + int(more[1]))
    assert f"{width(of):.3f} wide. 240 test patients instead of 120" in sentence


def test_patients_are_named_where_seeds_agree() -> None:
    first, second = evaluated("voxels", 0), evaluated("voxels", 1)
    record = second.record.model_copy(update={"score": first.record.score})
    sentence = next_steps(read(results(first, Evaluated(record, second.encoder, first.predictions))))[0]
    assert "less than 1% of its variance comes from seeds. About" in sentence
    assert sentence.endswith("test patients would halve it.")


def test_a_pair_gets_the_patients_that_it_needs_and_no_seeds_if_it_has_one() -> None:
    run = read(results(evaluated("byol", strength=1.0), evaluated("simclr", strength=0.8, noise=1)))
    (pair,) = run.tables.pairs
    found = needed(pair)
    assert found is not None
    assert found.seeds is None
    assert found.patients is not None
    assert found.patients > 120
    assert f"with about {found.patients} test patients instead of 120." in next_steps(run)[0]
    (row,) = paired(run).rows
    assert str(found.patients) in [cell.text for cell in row]


def test_a_separated_pair_needs_nothing() -> None:
    run = read(results(evaluated("byol", strength=3.0), evaluated("simclr", strength=0.1, noise=1)))
    assert needed(run.tables.pairs[0]) is None
    assert next_steps(run) == []


def test_errors_and_kappas_get_next_steps_in_their_own_size() -> None:
    """Errors can differ by more than 1 year, while 1 is the largest difference of two AUCs."""
    run = read(results(*(of_kind("regression", name, s, m, 5.0 + m) for m, name in enumerate("ab") for s in range(3))))
    (pair,) = run.tables.pairs
    assert abs(pair.test.estimate) > 1
    found = needed(pair)
    assert found is not None
    assert found.seeds is not None
    interval, compared, _ = next_steps(run)
    assert re.search(r"has an interval \d\.\d{3} wide\. 80 test patients instead of 40 would", interval)
    assert f"differed by the observed {abs(pair.test.estimate):.3f}" in compared
    ordinal = read(results(*(of_kind("ordinal", name, s, m) for m, name in enumerate("ab") for s in range(3))))
    assert any("are nearest to a verdict" in text for text in next_steps(ordinal))
