from dataclasses import replace

import pytest
import torch

from reprogram.configuration import load
from reprogram.inputs.text import Text
from reprogram.interfaces import TargetInfo, TargetTask
from reprogram.model import ReprogrammedModel
from reprogram.outputs.linear_features import LinearFeatures
from reprogram.robustness import settings
from reprogram.robustness.text_attacks.base import EvaluatedStrings
from reprogram.robustness.text_attacks.characters import Characters
from reprogram.robustness.text_attacks.neighbour_words import NeighbourWords
from reprogram.robustness.text_attacks.residues import RELATIVES, Residues, are_nucleotides
from reprogram.robustness.text_attacks.token_swaps import TokenSwaps, token_swaps
from reprogram.sources.text import TextSource
from reprogram.targets.base import StringExamples


def likes(texts):
    """Positive where a text says good or fine, negative where it says bad, undecided by one tenth otherwise."""
    score = torch.tensor([float("good" in t.lower() or "fine" in t.lower()) - float("bad" in t.lower()) for t in texts])
    return torch.stack([0.1 - score, score], 1)


TEXTS = ["The film was good today", "Such a bad and boring film", "good"]
LABELS = torch.tensor([1, 0, 1])


def test_characters_break_a_word_and_keep_the_rest():
    found = Characters(most=1)(likes, TEXTS, LABELS)
    assert found.broken.tolist() == [True, False, True]
    assert found.texts[0].split()[:3] == ["The", "film", "was"] and "good" not in found.texts[0]
    assert abs(len(found.texts[0]) - len(TEXTS[0])) <= 1
    assert (found.queries > 1).all() and 0 < float(found.changed[0]) <= 0.5
    again = Characters(most=1)(likes, TEXTS, LABELS)
    assert again.texts == found.texts


def test_words_are_swapped_for_neighbours_only():
    vocabulary = ["good", "nice", "film", "bad", "fine"]
    embeddings = torch.tensor([[1.0, 0], [0.9, 0.3], [0, 1.0], [-1.0, 0], [0.95, -0.1]])
    attack = NeighbourWords(most=2, vocabulary=vocabulary, embeddings=embeddings)
    found = attack(likes, TEXTS, LABELS)
    assert found.texts[0] == "The film was nice today" and bool(found.broken[0])
    assert found.texts[1] == TEXTS[1] and not bool(found.broken[1])
    assert "cosine >= 0.5" in attack.constraint


def test_wrong_texts_count_as_broken_without_a_change():
    found = Characters()(likes, ["bad"], torch.tensor([1]))
    assert found.broken.all() and found.texts == ["bad"] and float(found.changed[0]) == 0


def test_token_swaps_find_the_best_swap_that_brute_force_finds():
    torch.manual_seed(0)
    embeddings, weight = torch.randn(12, 4), torch.randn(5, 4)

    def loss_of(points):
        return (points * weight).sum((1, 2))

    tokens = torch.randint(0, 12, (5,))
    found, loss, asked = token_swaps(loss_of, tokens, embeddings, most=1, candidates=1)
    every = tokens.repeat(60, 1)
    every[torch.arange(60), torch.arange(60) // 12] = torch.arange(60) % 12
    assert float(loss[0]) == pytest.approx(float(loss_of(embeddings[every]).max()), rel=1e-5)
    assert int((found != tokens).sum()) == 1 and asked == 2
    places = torch.tensor([False, True, False, False, False])
    allowed = torch.zeros(12, dtype=torch.bool)
    allowed[3] = True
    found, _, _ = token_swaps(loss_of, tokens, embeddings, most=3, allowed=allowed, places=places)
    assert found.tolist()[0] == tokens.tolist()[0] and found[1] in (tokens[1], 3)


def test_residues_become_relatives_only_and_every_letter_may_change():
    """A and I are stop words of English, and residues all the same."""

    def counts_arginine(texts):
        share = torch.tensor([t.count("R") / len(t) for t in texts])
        return torch.stack([0.05 - share, share - 0.05], 1)

    attack = Residues(most=2)
    found = attack(counts_arginine, ["AIKRAAAAAA", "AIKAAAAAAA"], torch.tensor([1, 0]))
    assert found.broken.tolist() == [True, True]
    assert found.texts[1].count("R") == 1 and found.texts[1].replace("R", "K") == "AIKAAAAAAA"
    assert attack.variants(list("AIi"), 0, None) == ["S"] and attack.variants(list("AIi"), 2, None) == list("lmv")
    for letter, relatives in RELATIVES.items():
        assert all(letter in RELATIVES[other] for other in relatives), "BLOSUM62 is symmetric"


def test_nucleotides_change_by_transitions():
    assert are_nucleotides(["ACGU", "nacg"]) and not are_nucleotides(["ACGE"])
    attack = Residues(nucleotides=True)
    assert [attack.variants(list("ACGT"), i, None)[0] for i in range(4)] == list("GTAC")
    assert attack.variants(list("ACGU"), 1, None) == ["U"]


@pytest.fixture
def bert_program(text_models):
    info = TargetInfo("films", "text", "classification", ("a", "b"))
    model = ReprogrammedModel(TextSource(text_models("bert")), Text(), LinearFeatures(), info).eval()
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.output.parameters():
            parameter.normal_()
    return model


def test_gradient_guided_token_swaps_break_strings_and_are_read_back(bert_program):
    model = bert_program
    texts = ["good film bad", "the film good bad good", "xyz q"]
    with torch.no_grad():
        labels = model(texts).argmax(1)
    vocabulary = model.source.spec.vocabulary
    attack = TokenSwaps(
        most=3, cosine=-1.0, vocabulary=vocabulary, answer=lambda view: model.output([model.ask(view)]), longest=48
    )
    found = attack(model, texts, labels)
    assert torch.equal(found.broken, model(found.texts).argmax(1) != labels)
    assert found.texts[2] == "xyz q" and float(found.changed[2]) == 0, "words of several tokens stay"
    for before, after in zip(texts[:2], found.texts, strict=False):
        assert len(before.split()) == len(after.split()) and set(after.split()) <= set(vocabulary.tokens)
    assert "gradients" in attack.constraint and (found.queries >= 1).all()
    close = TokenSwaps(cosine=1.01, vocabulary=vocabulary, answer=attack.answer, longest=48)
    assert close(model, texts, labels).texts == texts, "nothing is that near"


def test_the_source_is_asked_for_the_same_tokens_as_embeddings(bert_program):
    """The gradient must be that of the string's own answer."""
    model, text = bert_program, "good film bad"
    vocabulary = model.source.spec.vocabulary
    attack = TokenSwaps(vocabulary=vocabulary, answer=lambda view: model.output([model.ask(view)]), longest=48)
    points = vocabulary.embeddings()[vocabulary.encode([text])[0]][None]
    assert torch.allclose(attack.answer(attack._surrounded(points)), model([text]), atol=1e-5)


def test_a_depth_chooses_string_attacks_by_what_the_strings_are(bert_program):
    quick = settings("quick")
    texts = EvaluatedStrings(bert_program, TEXTS, LABELS, TEXTS)
    words = [(scope.name, check.run(texts, scope).rows) for check, scope in quick.plan(texts, "words")]
    assert [name for name, rows in words if rows] == ["characters", "neighbour_words", "token_swaps"]
    peptides = EvaluatedStrings(bert_program, ["AIKR", "MEEK"], torch.tensor([0, 1]), ["AIKR", "MEEK"])
    assert [scope.name for _, scope in quick.plan(peptides, "residues")] == ["residues"]


def test_an_interrupted_string_check_goes_on_with_what_was_finished(bert_program, empty_run, monkeypatch):
    strings = StringExamples(TEXTS, LABELS.numpy())
    task, hook = TargetTask(bert_program.target, strings, strings), load("robustness", "quick")
    hook.on_fit_end(empty_run, bert_program, task)
    rows = empty_run.result.data["robustness"].pop("rows")
    assert [row["check"] for row in rows][:2] == ["clean", "characters"]
    journal = empty_run.dir / "robustness.jsonl"
    journal.write_text("".join(journal.read_text().splitlines(keepends=True)[:2]))
    resumed = replace(empty_run, resume=True)
    monkeypatch.setattr(Characters, "__call__", None)  # asking again would fail
    hook.on_fit_end(resumed, bert_program, task)
    assert resumed.result.data["robustness"]["rows"] == rows
