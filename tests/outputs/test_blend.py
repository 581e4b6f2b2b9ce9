"""Shares of a blend: those of highest posterior probability, near what was given while labels are few."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from reprogram.errors import ConfigError
from reprogram.interfaces import SourceOutput, SourceSpec, Tap, TargetInfo
from reprogram.outputs.blend import Blend, mixture_shares

SPEC = SourceSpec("text", 32, (), taps=("good", "noise"), answers="none")
RIDGES = tuple(
    {"name": "ridge_taps", "config": {"layers": [f"{layer}@mean"], "head": False}, "views": []}
    for layer in ("good", "noise")
)


def info(problem="classification", classes=("a", "b")):
    return TargetInfo("t", "text", problem, classes)


def outputs(n, labels, seed=0):
    generator = torch.Generator().manual_seed(seed)
    good = torch.randn(n, 4, generator=generator) + 2.0 * torch.as_tensor(labels).float().reshape(n, -1)[:, :1]
    taps = {Tap("good", "mean"): good, Tap("noise", "mean"): torch.randn(n, 4, generator=generator)}
    return [SourceOutput(torch.zeros(n, 0), None, taps)]


def fitted(labels, target=None, **options):
    method = Blend(members=RIDGES, **options)
    method.build(SPEC, target or info())
    method.fit(outputs(len(labels), torch.nan_to_num(labels.float())), labels)
    return method


def test_shares_are_the_best_on_a_grid():
    rng = np.random.default_rng(0)
    likelihoods, prior = rng.random((2, 30)), np.array([2.0, 3.0])
    grid = np.linspace(0.001, 0.999, 999)
    value = np.log(grid[:, None] * likelihoods[0] + (1 - grid[:, None]) * likelihoods[1]).sum(1)
    value = value + prior[0] * np.log(grid) + prior[1] * np.log(1 - grid)
    assert mixture_shares(likelihoods, prior)[0] == pytest.approx(grid[value.argmax()], abs=2e-3)
    assert np.allclose(mixture_shares(np.zeros((2, 0)), prior), [0.4, 0.6])


def test_many_labels_take_the_member_that_sees_them():
    labels = torch.arange(200) % 2
    method = fitted(labels, trust=10.0)
    assert method.shares[0] > 0.9
    assert method.shares.sum() == pytest.approx(1.0)


def test_few_labels_stay_near_the_given_shares():
    method = fitted(torch.arange(6) % 2, trust=100.0, prior=(3.0, 1.0))
    assert abs(method.shares[0] - 0.75) < 0.05


@pytest.mark.parametrize("problem", ["multilabel", "regression"])
def test_other_problems(problem):
    labels = (torch.arange(120) % 2).float()[:, None]
    labels[3] = float("nan") if problem == "multilabel" else labels[3]
    method = fitted(labels, info(problem, ("t",)), trust=10.0)
    assert method.shares[0] > 0.8
    assert method(outputs(20, torch.zeros(20))).isfinite().all()


def test_the_answer_is_the_mixture_and_comes_back():
    labels = torch.arange(60) % 2
    method = fitted(labels)
    new = outputs(15, torch.zeros(15), seed=3)
    mixed = sum(s * part(new).softmax(1) for s, part in zip(method.shares, method.parts, strict=True))
    assert torch.allclose(method(new).softmax(1), mixed, atol=1e-5)
    again = Blend(**method.config())
    again.build(SPEC, info())
    again.load_state_dict(method.state_dict())
    assert torch.equal(again(new), method(new))


def test_members_that_need_the_pool_get_it():
    labels = torch.arange(40) % 2
    members = (RIDGES[0], {"name": "diffusion", "config": {"layers": ["good@mean"], "head": False}, "views": []})
    method = Blend(members=members)
    method.build(SPEC, info())
    assert method.reads_pool
    seen = outputs(40, labels)
    method.observe_pool(seen)
    method.fit(seen, labels)
    assert (method(seen).argmax(1) == labels).float().mean() > 0.9
    assert (method.left_out.argmax(1) == labels).float().mean() > 0.8


def test_one_sentence_where_something_is_wrong():
    with pytest.raises(ConfigError, match="prior"):
        Blend(members=RIDGES, prior=(1.0,)).build(SPEC, info())
    with pytest.raises(ConfigError, match="trust"):
        Blend(members=RIDGES, trust=0.0).build(SPEC, info())
    labelled = SourceSpec("text", 32, ("s0", "s1"), taps=("good", "noise"), answers="logits")
    method = Blend(members=(RIDGES[0], {"name": "top_k", "config": {}, "views": []}))  # says nothing of left-out rows
    method.build(labelled, info())
    labels = torch.arange(12) % 2
    with pytest.raises(ConfigError, match="top_k"):
        method.fit([replace(outputs(12, labels)[0], logits=torch.randn(12, 2))], labels)
