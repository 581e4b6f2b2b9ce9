"""Every file of ``conf/check``: one row each. A new attack or check is one file, one conf file and one row here."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

from reprogram import robustness
from reprogram.configuration import option, options
from reprogram.robustness.checks.attack import AttackCheck
from reprogram.robustness.checks.base import Check
from reprogram.robustness.checks.text_attack import TextAttackCheck

LEFT: dict[str, float] = {  # of the accuracy of a small digit reader at linf .12, at most
    "noise": 1.0,
    "fgsm": 0.5,
    "mi_fgsm": 0.4,
    "minimum_norm": 0.3,
    "pgd": 0.4,
    "apgd_ce": 0.3,
    "apgd_dlr": 0.3,
    "apgd_targeted": 0.3,
    "square": 0.6,
    "hopskipjump": 1.0,
    "universal": 0.9,
    "transfer": 0.4,
    "bpda_pgd": 0.3,
}
OTHERS = {
    "clever": "estimate",
    "corruptions": "estimate",
    "flipped_labels": "estimate",
    "inheritance": "estimate",
    "linear_bounds": "certificate",
    "poisoned_labels": "estimate",
    "semantic": "attack",
    "smallest_perturbation": "attack",
    "smoothing": "certificate",
    "worst_case": "attack",
}
STRINGS = {"characters": "words", "neighbour_words": "words", "residues": "residues", "token_swaps": "words"}


FEWER = {"square": {"steps": 200}, "universal": {"epochs": 3}, "hopskipjump": {"steps": 2}}  # so that a test is quick


def made(name: str, **attack: Any) -> Any:
    return instantiate(OmegaConf.merge(option("check", name), {"attack": attack} if attack else {}))


def test_every_check_has_a_row() -> None:
    assert sorted(options("check")) == sorted([*LEFT, *OTHERS, *STRINGS])
    for name in options("check"):
        check = made(name)
        assert isinstance(check, Check) and check.config()
    assert {name for name in options("check") if isinstance(made(name), AttackCheck)} == set(LEFT)


@pytest.mark.parametrize("name", LEFT)
def test_an_attack_breaks_what_it_should(name: str, digit_cnn: Any, rounded: Any) -> None:
    model, images, labels = digit_cnn
    settings = robustness.settings("quick", examples=16, threats={"linf": 0.12})
    settings.checks = {name: made(name, **FEWER.get(name, {}))}
    under_test = rounded(model) if name == "bpda_pgd" else model
    result = robustness.evaluate(under_test, (images, labels), settings=settings, source=model)
    row = next(r for r in result.data["robustness"]["rows"] if r["check"] == name)
    assert row["kind"] == "attack" and row["family"] == "linf" and row["size"] == 0.12
    assert row["access"] in ("white_box", "straight_through", "score", "label", "none")
    assert row["value"] <= LEFT[name] and row["n"] == (4 if name == "hopskipjump" else 8 if name == "universal" else 16)


@pytest.mark.parametrize("name", OTHERS)
def test_kinds_are_declared(name: str) -> None:
    assert type(made(name)).kind == OTHERS[name]


@pytest.mark.parametrize("name", STRINGS)
def test_attacks_on_strings_declare_what_they_change(name: str) -> None:
    check = made(name)
    assert isinstance(check, TextAttackCheck) and check.suits(STRINGS[name]) and not check.suits("pixels")


def test_momentum_one_step_is_fgsm_and_none_is_plain_iteration(digit_cnn: Any) -> None:
    """Dong et al. 2018: one step is FGSM; without momentum it is the basic iterative method."""
    from reprogram.robustness.attacks.fgsm import FGSM
    from reprogram.robustness.attacks.mi_fgsm import MIFGSM
    from reprogram.robustness.attacks.pgd import PGD
    from reprogram.threat import Threat

    model, images, labels = digit_cnn
    threat = Threat("linf", 0.05)
    one, fgsm = (attack(model, images, labels).examples for attack in (MIFGSM(threat, steps=1), FGSM(threat)))
    assert torch.allclose(one, fgsm, atol=1e-6)
    plain = MIFGSM(threat, steps=4, decay=0.0)(model, images, labels).examples
    iterated = PGD(threat, steps=4, step_size=threat.eps / 4, random_start=False)(model, images, labels).examples
    assert torch.allclose(plain, iterated, atol=1e-6)
    assert not torch.allclose(MIFGSM(threat, steps=4)(model, images, labels).examples, plain)
