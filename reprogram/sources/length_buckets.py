"""Batches of strings that are about equally long, so that little is spent on padding."""

from __future__ import annotations

from collections.abc import Sequence


def length_buckets(lengths: Sequence[int], tokens_per_batch: int, equal: bool = False) -> list[list[int]]:
    """Rows sorted by length and cut into batches of at most ``tokens_per_batch`` padded tokens (at least one row).

    equal: only rows of one length share a batch, for models that see padding.
    """
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    buckets: list[list[int]] = []
    for row in order:
        fits = bool(buckets) and (len(buckets[-1]) + 1) * lengths[row] <= tokens_per_batch
        if fits and not (equal and lengths[buckets[-1][-1]] != lengths[row]):
            buckets[-1].append(row)
        else:
            buckets.append([row])
    return buckets
