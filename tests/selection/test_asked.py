"""program=auto over a black-box model: inside the budget, every query counted, known answers free."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from reprogram.errors import SourceError
from reprogram.evaluation.features import CachedSource
from reprogram.interfaces import TargetInfo, TargetTask
from reprogram.ledger import EVALUATION, Budget
from reprogram.selection.choose import Auto, choose
from reprogram.sources.black_box import BlackBoxSource
from reprogram.targets.base import ArrayExamples

FAST = Auto(minutes=1.0, folds=2)
N = 20  # training images


@pytest.fixture
def setting(tiny_source: Any) -> Any:
    rng, labels = np.random.default_rng(0), np.arange(N) % 4
    images = (rng.random((N, 3, 12, 12)) * 0.4 + labels[:, None, None, None] * 0.15).astype(np.float32)
    examples = ArrayExamples(images, labels)
    info = TargetInfo("four", "image", "classification", tuple("abcd"), (3, 12, 12))
    task = TargetTask(info, examples, examples.subset(range(10)))

    def make(**source: Any) -> Any:
        service = BlackBoxSource(tiny_source(seed=1), top=1, **source)
        service.spec = replace(service.spec, size=224)  # so that scales differ
        return CachedSource(service), service, task

    return make


def status(found: Any) -> dict[str, str]:
    return {row["candidate"]: row["status"] for row in found.rows}


def test_views_are_paid_once_and_counted(setting: Any, empty_run: Any) -> None:
    source, service, task = setting()
    found = choose([source], task, FAST, empty_run)
    assert "skipped" not in status(found).values()
    assert service.ledger.calls == N * 5 * 2, "five scales and their mirror images, however many candidates read them"
    before = service.ledger.calls
    found.model.logits(task.train)
    assert service.ledger.calls == before, "the refitted winner reads answers that are paid for"


@pytest.mark.parametrize(("budget", "views"), [(N, 1), (2 * N - 1, 1), (2 * N, 2), (10 * N - 1, 5)])
def test_budget_ends_between_two_candidates(budget: int, views: int, setting: Any, empty_run: Any) -> None:
    source, service, task = setting(budget=Budget(queries=budget))
    found = choose([source], task, FAST, empty_run)
    assert service.ledger.calls == N * views
    skipped = [row for row in found.rows if row["status"] == "skipped"]
    assert skipped and all("more queries and" in row["why"] for row in skipped)


def test_budget_below_one_view_is_one_sentence_and_pays_for_nothing(setting: Any, empty_run: Any) -> None:
    source, service, task = setting(budget=Budget(queries=N - 1))
    with pytest.raises(SourceError, match=r"it needs 20 more queries and 19 are left in the budget"):
        choose([source], task, FAST, empty_run)
    assert service.ledger.calls == 0


def test_price_leaves_what_the_test_set_will_cost(setting: Any, empty_run: Any) -> None:
    """Two views cost 40 queries and their evaluation 20; with 59 in all, one view (20 + 10) is what can be judged."""
    for price, views in ((59, 1), (60, 2)):
        source, service, task = setting(budget=Budget(price=price, price_per_query=1.0))
        found = choose([source], task, FAST, empty_run)
        assert service.ledger.calls == N * views
        with source.counted_as(EVALUATION):
            found.model.predict(task.test)
        assert service.ledger.bill()["price"] <= price


def test_answers_in_the_cache_are_free_even_without_a_budget_left(setting: Any, empty_run: Any, tmp_path: Any) -> None:
    source, _, task = setting(cache=tmp_path / "answers")
    first = choose([source], task, FAST, empty_run)
    source, service, _ = setting(cache=tmp_path / "answers", budget=Budget(queries=0))
    again = choose([source], task, FAST, empty_run)
    assert service.ledger.bill()["queries"] == 0
    assert again.estimate == first.estimate and status(again) == status(first)


def test_votes_of_a_label_only_service_are_in_the_price(setting: Any, empty_run: Any) -> None:
    source, service, task = setting(answers="label", votes=3, budget=Budget(queries=N * 3))
    found = choose([source], task, FAST, empty_run)
    assert service.ledger.calls == N * 3 and list(status(found).values()).count("skipped") == 4


def test_more_views_never_come_before_fewer(setting: Any, empty_run: Any) -> None:
    source, _, task = setting()
    passes = [row["passes"] for row in choose([source], task, FAST, empty_run).rows if row["kind"] == "program"]
    assert all(a <= b for a, b in itertools.pairwise(passes[:4]))
