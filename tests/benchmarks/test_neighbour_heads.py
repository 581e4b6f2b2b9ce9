"""Heads of the literature, as the benchmark of neighbours builds them."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from _neighbour_heads import clap, pls_then_kernel, tip_adapter

MEANS = torch.nn.functional.normalize(torch.randn(4, 30, generator=torch.Generator().manual_seed(3)), dim=1)


def examples(count, seed, noise=0.1):
    labels = torch.arange(count) % 4
    return MEANS[labels] + noise * torch.randn(count, 30, generator=torch.Generator().manual_seed(seed)), labels


@pytest.mark.parametrize("head", [tip_adapter, clap])
def test_heads_that_start_at_names_use_right_ones_and_survive_wrong_ones(head):
    (train, labels), (test, truth) = examples(32, 0), examples(200, 1)
    wrong = torch.randn(4, 30, generator=torch.Generator().manual_seed(9)) / 30**0.5
    for names, least in ((10 * MEANS, 0.95), (10 * wrong, 0.6)):
        right = (head(train, labels, test, names).argmax(1) == truth).float().mean()
        assert right > least


def test_pls_reads_products_alone_so_that_a_rotation_changes_nothing():
    (train, labels), (test, truth) = examples(32, 0), examples(200, 1)
    turn = torch.linalg.qr(torch.randn(30, 30, generator=torch.Generator().manual_seed(2)))[0]
    found = pls_then_kernel(train, labels.numpy(), test, 4)
    assert (found.argmax(1) == truth.numpy()).mean() > 0.9
    np.testing.assert_allclose(pls_then_kernel(train @ turn, labels.numpy(), test @ turn, 4), found, atol=0.05)


def test_tip_adapter_is_the_names_plus_a_cache_of_labels():
    """One label a class says nothing of itself when left out, so that the least loud cache is taken: α .5, β 20."""
    train, labels = torch.eye(4), torch.arange(4)
    found = tip_adapter(train, labels, torch.eye(4)[:1], torch.zeros(4, 4))
    near = 0.5 * torch.exp(-20.0 * (1 - torch.eye(4)[0]))
    torch.testing.assert_close(found[0], near)
