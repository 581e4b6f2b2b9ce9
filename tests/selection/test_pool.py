"""Candidates that read a pool: made for every kind, blended as the source allows."""

from __future__ import annotations

import pytest
import torch

from reprogram.interfaces import SourceOutput, SourceSpec, Tap, TargetInfo
from reprogram.selection.candidates import make_input, make_output
from reprogram.selection.pool import blend_config, pool_candidates

IMAGE = SourceSpec("image", 64, ("x", "y"), feature_size=8, taps=("block_1", "block_2", "head"))
TEXT = SourceSpec("text", 32, (), taps=("layer_1",), answers="none")
ASKED = SourceSpec("image", 64, ("x", "y", "z"))


def target(kind="image", problem="classification"):
    shape = (3, 8, 8) if kind == "image" else None
    return TargetInfo("t", kind, problem, ("a", "b") if problem != "regression" else ("v",), shape)


def members(spec, info):
    return [member["name"] for member in blend_config(spec, info)[1]["members"]]


def test_members_by_source_and_problem():
    assert members(IMAGE, target()) == ["ridge_taps", "diffusion", "prototypes", "diffusion", "prototypes"]
    assert members(ASKED, target()) == ["ridge_taps", "diffusion", "prototypes"]
    assert members(TEXT, target("text")) == members(IMAGE, target(problem="regression")) == ["ridge_taps", "diffusion"]


@pytest.mark.parametrize(
    ("spec", "info", "photographs"),
    [
        (IMAGE, target(), True),
        (IMAGE, target(), False),
        (ASKED, target(), False),
        (TEXT, target("text"), False),
        (TEXT, target("sequence", "regression"), False),
    ],
)
def test_a_candidate_learns_from_cached_answers_and_a_pool(spec, info, photographs):
    (candidate,) = pool_candidates(spec, info, photographs)
    make_input(candidate.input).build(spec, info)
    output = make_output(candidate.output)
    output.build(spec, info)
    assert output.reads_pool and "preferred" in candidate.tags
    views = 2 if photographs else 1

    def answers(n, seed):
        generator = torch.Generator().manual_seed(seed)

        def rows(width):
            return torch.randn(n, width, generator=generator)

        features = rows(8) if spec.feature_size else None
        return [
            SourceOutput(rows(len(spec.labels)), features, {tap: rows(6) for tap in output.taps()}) for _ in range(views)
        ]

    output.observe_pool(answers(60, 0))
    labels = torch.arange(12) % 2 if info.problem == "classification" else torch.arange(12).float()
    output.fit(answers(12, 1), labels)
    assert output(answers(5, 2)).shape == (5, len(info.classes))
    assert output.left_out.shape == (12, len(info.classes))
    assert Tap("block_2", "2") in output.taps() or spec is not IMAGE
