import pytest

from reprogram.evaluation.verdict import Difference, worth_paying

BILL = {"queries": 1460, "by_kind": {"training": 960, "evaluation": 500}, "price": 1.46}


def test_free_sources_say_nothing_of_money():
    assert worth_paying({"queries": 0}, {}, "accuracy", True) == ""


@pytest.mark.parametrize(
    ("low", "high", "sentence"),
    [
        (-0.02, 0.03, "nothing beyond the first pass was worth paying for"),
        (-0.05, -0.01, "nothing beyond the first pass was worth paying for"),
        (0.02, 0.06, "the search added 4.0 points (2.0 to 6.0) to the first pass"),
    ],
)
def test_verdict_says_whether_the_search_was_worth_its_queries(low, high, sentence):
    start = Difference((low + high) / 2, low, high)
    text = worth_paying(BILL, {"mapping_only": start}, "accuracy", True)
    assert sentence in text and "960 queries (1.46 in all, evaluation included)" in text


def test_program_without_a_search_names_its_queries_only():
    same = Difference(0.0, 0.0, 0.0, same=True)
    assert worth_paying(BILL | {"price": 0}, {"mapping_only": same}, "accuracy", False) == " It took 960 queries."
