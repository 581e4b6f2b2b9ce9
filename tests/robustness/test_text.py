import pytest
import torch

from reprogram.robustness.text import Characters, Words, token_swaps


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
    attack = Words(most=2, vocabulary=vocabulary, embeddings=embeddings)
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
