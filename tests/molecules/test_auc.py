"""The benchmark's area, against its own definition worked out by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from molecules.auc import auc_top, top_mean


def test_by_hand():
    # 250 calls of 300: blocks end at 100, 200, 250 with top-1 .2, .6, .6; the last value fills the 50 unused calls
    scores = [0.2] * 100 + [0.6] * 150
    expected = (100 * (0 + 0.2) / 2 + 100 * (0.2 + 0.6) / 2 + 50 * 0.6 + 50 * 0.6) / 300
    assert auc_top(scores, 1, 300) == pytest.approx(expected)


def test_top_ten_of_fewer_is_their_mean_and_nan_is_left_out():
    assert top_mean([0.2, np.nan, 0.4], 10) == pytest.approx(0.3)
    assert top_mean([np.nan], 10) == 0.0
    assert auc_top([], 10, 100) == 0.0 and auc_top([1.0], 10, 0) == 0.0


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=400), st.integers(1, 12))
def test_lies_between_nothing_and_the_final_value(scores, k):
    area = auc_top(scores, k, 400)
    assert -1e-9 <= area <= max(scores) + 1e-9
    assert auc_top([*scores, *[0.0] * (400 - len(scores))], k, 400) <= area + 1e-9 or k > 1
