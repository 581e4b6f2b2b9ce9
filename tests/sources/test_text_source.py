"""Frozen language models: right answers whatever the batch, and clear errors."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reprogram.errors import ConfigError, SourceError
from reprogram.interfaces import Tap
from reprogram.sources.length_buckets import length_buckets
from reprogram.sources.text import TextSource
from reprogram.sources.token_pooling import pool_states

TEXTS = ["good film", "bad", "the " * 20, "a b c d e f", "the good the bad", "z"]


@pytest.fixture(scope="module")
def encoder(text_models):
    return TextSource(text_models("bert"))


@pytest.fixture(scope="module")
def masked(text_models):
    return TextSource(text_models("masked"))


@pytest.fixture(scope="module")
def causal(text_models):
    return TextSource(text_models("gpt2"))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=30), st.integers(1, 100))
def test_buckets_hold_every_row_once_within_the_budget(lengths, budget):
    buckets = length_buckets(lengths, budget)
    assert sorted(row for rows in buckets for row in rows) == list(range(len(lengths)))
    assert all(len(rows) == 1 or len(rows) * max(lengths[r] for r in rows) <= budget for rows in buckets)


def test_pooling_leaves_padding_out():
    states = torch.randn(2, 4, 3)
    mask = torch.tensor([[1, 1, 0, 0], [1, 1, 1, 1]])
    states[0, 2:] = 1e6
    real = states[0, :2]
    assert torch.allclose(pool_states(states, mask, "mean")[0], real.mean(0))
    assert torch.allclose(pool_states(states, mask, "max")[0], real.amax(0))
    assert torch.allclose(pool_states(states, mask, "std")[0], real.std(0, unbiased=False), atol=1e-5)
    assert torch.equal(pool_states(states, mask, "last")[0], real[1])
    with pytest.raises(ConfigError, match="median"):
        pool_states(states, mask, "median")


@pytest.mark.parametrize("kind", ["encoder", "masked", "causal"])
def test_answers_do_not_depend_on_the_batch(kind, request):
    """One at a time with no padding at all, against any order and batch size."""
    source = request.getfixturevalue(kind)
    taps = [Tap("embeddings", "mean"), Tap("layer_1", "max"), Tap("layer_2", "std")]
    together = source(TEXTS, taps)
    for row, text in enumerate(TEXTS):
        alone = source([text], taps)
        assert torch.allclose(together.features[row], alone.features[0], atol=1e-5)
        assert torch.allclose(together.logits[row], alone.logits[0], atol=1e-5)
        for tap in taps:
            assert torch.allclose(together.taps[tap][row], alone.taps[tap][0], atol=1e-5)


def test_embeddings_from_outside_give_the_same_answer_and_a_gradient(encoder):
    padded = encoder.tokenise(TEXTS)
    embeds = encoder.spec.vocabulary.embeddings()[padded["input_ids"]].clone().requires_grad_()
    out = encoder({"inputs_embeds": embeds, "attention_mask": padded["attention_mask"]})
    assert torch.allclose(out.features, encoder(TEXTS).features, atol=1e-5)
    out.features.sum().backward()
    assert embeds.grad[padded["attention_mask"] == 0].abs().max() == 0
    assert all(p.grad is None for p in encoder.parameters())


def test_masked_language_model_answers_at_its_mask(masked):
    texts = ["the film [MASK] good", "[MASK] bad"]
    with torch.no_grad():
        for row, at in enumerate((3, 1)):
            whole = masked.network(**{k: v[row : row + 1] for k, v in masked.tokenise(texts).items()}).logits
            assert torch.allclose(masked(texts).logits[row], whole[0, at], atol=1e-5)
    assert masked.labels[5] == "good" and masked(texts).logits.shape == (2, len(masked.labels))


def test_causal_language_model_pads_on_the_right(causal):
    """Trap: a tokenizer that pads on the left or has no padding token shifts positions or reads padding."""
    out = causal(["good", "the good bad film"])
    with torch.no_grad():
        alone = causal.network(torch.tensor([[5]])).logits[0, -1]
    assert torch.allclose(out.logits[0], alone, atol=1e-5)
    assert causal.head == "causal_lm"


def test_long_strings_are_cut_and_the_specials_stay(encoder):
    long = "a " * 100
    assert encoder.tokenise([long])["input_ids"].shape == (1, 48)
    assert encoder.tokenise([long])["input_ids"][0, -1] == 3  # the closing special stays


def test_empty_string_has_an_answer(encoder, causal):
    assert encoder([""]).features.isfinite().all()
    assert causal([""]).logits.isfinite().all()


def test_frozen_by_bits_and_the_same_from_load_to_load(encoder):
    before = encoder.fingerprint()
    encoder.train(True)
    encoder(TEXTS)
    assert encoder.fingerprint() == before == TextSource(**encoder.options).fingerprint()
    assert not encoder.network.training and not any(p.requires_grad for p in encoder.parameters())


def test_random_weights_are_another_model_of_the_same_shape(encoder):
    other, again = encoder.with_random_weights(1), encoder.with_random_weights(1)
    assert other.fingerprint() == again.fingerprint() != encoder.fingerprint()
    assert other.parameter_count() == encoder.parameter_count()


def test_a_head_that_the_checkpoint_lacks_is_refused(encoder):
    """Trap: transformers fills a missing head with random numbers and only logs it."""
    with pytest.raises(SourceError, match=r"no weights for source\.head=masked_lm"):
        TextSource(encoder.options["model"], head="masked_lm")


def test_folder_without_a_tokenizer(text_models):
    folder = Path(text_models("bert"))
    for file in ("tokenizer.json", "tokenizer_config.json"):
        (folder / file).unlink()
    with pytest.raises(SourceError, match="has no tokenizer"):
        TextSource(str(folder))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": "./nowhere"}, "does not exist"),
        ({"head": "classifier"}, "allowed: auto"),
        ({"tokenizer": "smile"}, "smiles"),
        ({"max_length": 2}, "at least 3"),
        ({"max_length": 49}, "between 3 and 48"),
        ({"tokens_per_batch": 0}, "at least 1"),
    ],
)
def test_bad_options_are_named(encoder, options, message):
    with pytest.raises((ConfigError, SourceError), match=message):
        TextSource(**({"model": encoder.options["model"]} | options))


def test_folder_of_neither_kind(tmp_path):
    with pytest.raises(SourceError, match=r"config\.json"):
        TextSource(str(tmp_path))


def test_unknown_layer_is_named(encoder):
    with pytest.raises(SourceError, match="layer_2"):
        encoder(["a"], [Tap("layer_3", "mean")])


def test_smiles_vocabulary_is_read_by_the_pattern(text_models):
    """rxnfp and RXNMapper: the vocabulary holds whole SMILES tokens that a word tokenizer would break."""
    folder = Path(text_models("bert"))
    data = json.loads((folder / "tokenizer.json").read_text())
    words = {"good": "Cl", "bad": "[nH]"}
    data["model"]["vocab"] = {words.get(token, token): i for token, i in data["model"]["vocab"].items()}
    (folder / "tokenizer.json").write_text(json.dumps(data))
    source = TextSource(str(folder), tokenizer="smiles")
    assert source.tokenise(["Clc[nH]"])["input_ids"].tolist() == [[2, 5, 11, 6, 3]]


def test_bundled_minilm_reads_english():
    from reprogram.sources.minilm import MiniLM

    source = MiniLM()
    vectors = torch.nn.functional.normalize(source(["eating food", "having a meal", "the stock market"]).features)
    cosine = (vectors @ vectors.T).numpy()
    assert cosine[0, 1] > 0.65 and cosine[0, 2] < 0.3
    assert source.spec.answers == "none" and source.labels == () and source.parameter_count() > 22_000_000
