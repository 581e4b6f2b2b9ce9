"""Transformations in front of a language model: what it reads, what is trained, what is said about it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import orthogonal_mp_gram

from molecules.tokenization import selfies_tokens, smiles_tokens
from reprogram.errors import ConfigError
from reprogram.inputs._sparse_coding import matching_pursuit, preselect
from reprogram.inputs.dense_token_map import DenseTokenMap
from reprogram.inputs.prompt_text import PromptText
from reprogram.inputs.soft_prompt import SoftPrompt
from reprogram.inputs.text import Text
from reprogram.inputs.token_map import TokenMap
from reprogram.interfaces import SourceSpec, TargetInfo
from reprogram.sources.text import TextSource
from reprogram.tokenization import TargetTokens

TARGET = TargetInfo("t", "molecule", "classification", ("a", "b"))
STRINGS = ["CCO", "c1ccccc1", "C[C@@H](N)C(=O)O", "BrCCl"]


@pytest.fixture(scope="module")
def encoder(text_models):
    return TextSource(text_models("bert"))


@pytest.fixture(scope="module")
def masked(text_models):
    return TextSource(text_models("masked"))


def built(method, source):
    method.build(source.spec, TARGET)
    return method


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=40))
def test_smiles_tokens_lose_nothing(text):
    assert "".join(smiles_tokens(text)) == text


def test_smiles_tokens_by_hand():
    assert smiles_tokens("C[C@@H](Cl)c1[nH]%12Br") == ["C", "[C@@H]", "(", "Cl", ")", "c", "1", "[nH]", "%12", "Br"]


def test_selfies_tokens_and_what_selfies_cannot_say():
    assert selfies_tokens("CCO") == ["[C]", "[C]", "[O]"]
    assert selfies_tokens("not a molecule") == smiles_tokens("not a molecule")


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(["smiles", "amino_acids", "characters"]), st.text(max_size=30))
def test_target_tokens_cover_every_string(kind, text):
    """Trap: a token that training never saw has no row in the map."""
    vocabulary = TargetTokens(kind)
    ids = vocabulary.encode(text)
    assert all(0 <= i < len(vocabulary.tokens) for i in ids) and bool(ids) == bool(text)
    if all(c in vocabulary.tokens for c in text):
        assert "".join(vocabulary.tokens[i] for i in ids) == text


def test_text_and_prompt(encoder):
    assert built(Text(), encoder)(["CCl"]) == [["CCl"]]
    assert built(Text("own+smiles"), encoder)(["CCl"]) == [["CCl"], ["C Cl"]]
    assert built(PromptText("smiles", template="a {} b"), encoder)(["CCl"]) == [["a C Cl b"]]
    for bad, message in ((Text("smile"), "did you mean 'smiles'"), (PromptText(template="no"), "once")):
        with pytest.raises(ConfigError, match=message):
            built(bad, encoder)
    with pytest.raises(ConfigError, match="reads image"):
        Text().build(SourceSpec("image", 32, ()), TARGET)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 6))
def test_matching_pursuit_chooses_what_scikit_learn_chooses(seed, sparsity):
    rng = np.random.default_rng(seed)
    atoms = rng.normal(size=(40, 12))
    atoms /= np.linalg.norm(atoms, axis=1, keepdims=True)
    signals = rng.normal(size=(5, 12))
    expected = orthogonal_mp_gram(atoms @ atoms.T, atoms @ signals.T, n_nonzero_coefs=sparsity).T
    ids, weights = matching_pursuit(torch.tensor(signals), torch.tensor(atoms), sparsity)
    dense = torch.zeros(5, 40, dtype=torch.float64).scatter_(1, ids, weights)
    assert np.allclose(dense.numpy(), expected, atol=1e-8)


def test_matching_pursuit_stops_at_an_explained_signal_and_scales_atoms():
    atoms = torch.eye(6)[:4] * 2.0
    ids, weights = matching_pursuit(torch.tensor([[0.0, 6.0, 0, 0, 0, 0], [0.0] * 6]), atoms, 3)
    assert ids[0, 0] == 1 and torch.allclose(weights[0], torch.tensor([3.0, 0.0, 0.0])) and weights[1].abs().sum() == 0
    twice = torch.cat([atoms, atoms])  # equal atoms make a singular Gram matrix
    ids, weights = matching_pursuit(torch.randn(3, 6), twice, 4)
    assert weights.isfinite().all()


def test_preselection_keeps_each_signals_best_atom():
    """Trap: one loud signal takes all the places."""
    generator = torch.Generator().manual_seed(0)
    atoms = torch.randn(500, 16, generator=generator)
    signals = torch.randn(10, 16, generator=generator)
    signals[0] *= 1000
    chosen = preselect(signals, atoms, 50)
    best = (signals @ (atoms / atoms.norm(dim=1, keepdim=True)).T).abs().argmax(1)
    assert set(best.tolist()) <= set(chosen.tolist()) and len(chosen) <= 80


@pytest.mark.parametrize(
    "method", [TokenMap(sparsity=3, atoms=20), DenseTokenMap(), SoftPrompt(length=3), TokenMap("amino_acids")]
)
def test_gradient_reaches_the_program_and_nothing_else(method, encoder):
    built(method, encoder).train()
    out = encoder(method(STRINGS)[0])
    out.features.square().sum().backward()
    grads = [p.grad for p in method.parameters()]
    assert grads and all(g is not None and g.isfinite().all() and g.abs().sum() > 0 for g in grads)
    assert all(p.grad is None for p in encoder.parameters())


def test_a_map_of_each_token_to_itself_is_the_plain_reading(encoder):
    """Letters of this source are its tokens: a map that starts by spelling says exactly what the tokenizer says."""
    strings = ["abcd", "zz", "q"]
    spaced = encoder([" ".join(s) for s in strings]).features
    for method in (DenseTokenMap("characters", "spelling"), TokenMap("characters", sparsity=1, start="spelling")):
        assert torch.allclose(encoder(built(method, encoder).eval()(strings)[0]).features, spaced, atol=1e-4)


def test_soft_prompt_stands_after_the_opening_token(encoder):
    prompt = built(SoftPrompt(length=2, words="good bad"), encoder)
    assert torch.allclose(encoder(prompt(["film"])[0]).features, encoder(["good bad film"]).features, atol=1e-5)
    with pytest.raises(ConfigError, match="at least 1"):
        built(SoftPrompt(length=0), encoder)


def test_masked_model_is_asked_at_its_mask(masked):
    """A map in front of a masked model puts a mask token behind the string and reads the answer there."""
    method = built(DenseTokenMap("characters", "spelling"), masked).eval()
    expected = masked(["a b c [MASK]", "z [MASK]"]).logits
    assert torch.allclose(masked(method(["abc", "z"])[0]).logits, expected, atol=1e-4)


def test_token_map_is_the_equation_of_r2dl(encoder):
    """The model reads Θ V_S; a step moves V_T by the task's gradient at Θ V_S, summed over a token's places."""
    method = built(TokenMap("characters", sparsity=2, every=100, start="spelling"), encoder).train()
    frozen, row = method._vocabulary.embeddings().detach(), method._target.encode("a")[0]
    method.ids[row], method.weights[row] = torch.tensor([5, 7]), torch.tensor([0.25, -2.0])
    read = method(["aba"])[0]["inputs_embeds"]
    assert torch.allclose(read[0, [1, 3]], (0.25 * frozen[5] - 2 * frozen[7]).expand(2, -1), atol=1e-6)
    weight = torch.randn(read.shape, generator=torch.Generator().manual_seed(0))
    (read * weight).sum().backward()
    assert torch.allclose(method.dense.grad[row], weight[0, 1] + weight[0, 3], atol=1e-6)


def test_token_map_is_sparse_after_training_whatever_the_last_step(encoder):
    method = built(TokenMap(sparsity=2, atoms=20, every=100), encoder).train()
    before = method.table().detach().clone()
    optimiser = torch.optim.Adam(method.parameters(), lr=0.1)
    for _ in range(3):
        optimiser.zero_grad()
        encoder(method(STRINGS)[0]).features.square().sum().backward()
        optimiser.step()
    assert torch.equal(method.table(), before)  # no projection yet
    method.eval()
    assert not torch.equal(method.table(), before)
    assert all(len(parts) <= 2 for parts in method.composition().values()) and method.ids.shape[1] == 2


def test_token_map_reads_a_program_with_impossible_ids(encoder):
    method = built(TokenMap(sparsity=2), encoder).eval()
    method.ids.fill_(10**9)
    assert encoder(method(["CC"])[0]).features.isfinite().all()


def test_compositions_are_words(encoder):
    made = built(DenseTokenMap("amino_acids", "spelling"), encoder).composition()
    assert made["a"] == [("a", 1.0)]


def test_long_strings_are_cut_to_what_the_source_reads(encoder):
    prepared = built(TokenMap(), encoder)(["C" * 200])[0]
    assert prepared["inputs_embeds"].shape[1] == encoder.spec.size
    with pytest.raises(ConfigError, match="not the target's own"):
        built(SoftPrompt(length=60), encoder)(["C"])


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (lambda: TokenMap(sparsity=0), "sparsity=0 must be"),
        (lambda: TokenMap(atoms=2), "at least input.sparsity"),
        (lambda: TokenMap("smils"), "did you mean 'smiles'"),
        (lambda: DenseTokenMap(start="random"), "names, spelling"),
        (lambda: SoftPrompt(tokens="own+smiles"), "not a tokenisation"),
    ],
)
def test_bad_options_are_named(method, message, encoder):
    with pytest.raises(ConfigError, match=message):
        built(method(), encoder)


def test_images_have_no_tokens():
    with pytest.raises(ConfigError, match="works on the tokens of a language model"):
        TokenMap().build(SourceSpec("image", 32, ()), TARGET)


@pytest.mark.parametrize("words", [1, 30, 60, 500])
def test_a_prompt_keeps_its_question_whatever_the_length_of_the_text(masked, words):
    """Trap: a long string pushed the mask out, and the answer was read at the first token."""
    (view,) = built(PromptText(template="good {} bad [MASK] ."), masked)(["film " * words])
    ids = masked.tokenise([view[0]])["input_ids"][0]
    read = [masked.spec.vocabulary.tokens[i] for i in ids.tolist()]
    assert read[:2] == ["[CLS]", "good"] and read[-4:-1] == ["bad", "[MASK]", "[UNK]"]
    assert len(ids) == min(words + 6, masked.spec.size)  # all that fits is there, and nothing else is lost
    with torch.no_grad():
        whole = masked.network(input_ids=ids[None]).logits[0]
    torch.testing.assert_close(masked(view).logits[0], whole[len(ids) - 3], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("mask", ["[MASK]", "<mask>"])
def test_either_spelling_of_the_mask_is_the_models_own(text_models, masked, mask):
    assert built(PromptText(template=f"{{}} {mask}"), masked)(["good"]) == [["good [MASK]"]]
    folder = Path(text_models("masked"))
    for file in ("tokenizer.json", "tokenizer_config.json"):
        (folder / file).write_text((folder / file).read_text().replace("[MASK]", "<mask>"))
    source = TextSource(str(folder))
    view = built(PromptText(template=f"{{}} {mask} ."), source)(["good"])[0]
    assert view == ["good <mask> ."] and source.tokenise(view)["input_ids"][0].tolist() == [2, 5, 4, 1, 3]


def test_a_mask_in_the_text_is_not_the_question(masked):
    (view,) = built(PromptText(template="{} [MASK]"), masked)(["good [MASK] film"])
    assert view[0].split() == ["good", "film", "[MASK]"]


@pytest.mark.parametrize("kind", ["bert", "gpt2"])
@pytest.mark.parametrize("mask", ["[MASK]", "<mask>"])
def test_a_mask_where_nothing_is_filled_in_is_refused(text_models, kind, mask):
    with pytest.raises(ConfigError, match=r"fills in no mask"):
        built(PromptText(template=f"{{}} {mask}"), TextSource(text_models(kind)))


@pytest.mark.parametrize(
    ("template", "sentence"),
    [("{} [MASK] <mask>", "2 times"), ("good " * 50 + "{}", "leaves no room"), ("{} {}", "once")],
)
def test_other_templates_that_cannot_work(masked, template, sentence):
    with pytest.raises(ConfigError, match=sentence):
        built(PromptText(template=template), masked)


@settings(max_examples=30, deadline=None)
@given(st.text(alphabet="ab good[]MASK\n.", max_size=300))
def test_prompts_always_fit(masked, text):
    method = built(PromptText(template="good {} film"), masked)
    (view,) = method([text])
    vocabulary = masked.spec.vocabulary
    assert len(vocabulary.encode(view)[0]) + 2 <= masked.spec.size
    assert view[0].startswith("good ") and view[0].endswith(" film") and view[0][5:-5] == text[: len(view[0]) - 10]
