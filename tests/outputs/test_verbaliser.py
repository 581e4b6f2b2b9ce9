"""Label words of a language model: found where they are planted, without the bias of the model, with names as a first guess."""

import json

import numpy as np
import pytest
import torch

from reprogram.artifact import from_pretrained
from reprogram.errors import ConfigError
from reprogram.inputs.prompt_text import PromptText
from reprogram.interfaces import SourceOutput, SourceSpec, TargetInfo, Vocabulary
from reprogram.model import ReprogrammedModel
from reprogram.outputs.verbaliser import Verbaliser, _Evidence
from reprogram.sources.text import TextSource
from reprogram.targets.base import StringExamples
from reprogram.training.loop import fit

TOKENS = tuple(f"w{i}" for i in range(60))
PLANTED = {0: (3, 4, 5), 1: (10, 11), 2: (20, 21, 22)}  # tokens that a class makes likelier


def spec_of(tokens=TOKENS):
    def encode(texts):
        return [[tokens.index(text.strip())] if text.strip() in tokens else [] for text in texts]

    vocabulary = Vocabulary(tokens, encode, lambda: torch.zeros(len(tokens), 4))
    return SourceSpec("text", 32, tokens, vocabulary=vocabulary)


def built(classes=("x", "y", "z"), **options):
    output = Verbaliser(**options)
    output.build(spec_of(), TargetInfo("toy", "text", "classification", classes))
    return output


def answers(labels, seed, rise=2.0, noise=1.0):
    """Token logits with the bias of a model: some tokens are likely whatever is read."""
    rng = np.random.default_rng(seed)
    logits = np.linspace(4, -4, len(TOKENS)) + noise * rng.normal(size=(len(labels), len(TOKENS)))
    for row, label in enumerate(labels):
        logits[row, list(PLANTED[int(label)])] += rise
    return SourceOutput(torch.tensor(logits).float())


def hits(output, rise=2.0):
    labels = np.arange(300) % 3
    return float((output([answers(labels, 99, rise)]).argmax(1).numpy() == labels).mean())


def test_planted_words_are_found_and_told():
    output, labels = built(words=3), np.arange(48) % 3
    output.fit([answers(labels, 0)], torch.tensor(labels))
    assert set(output.index[0].tolist()) == {3, 4, 5} and set(output.index[2].tolist()) == {20, 21, 22}
    assert {10, 11} <= set(output.index[1].tolist()) and hits(output) > 0.9
    told = output.explain()[0].rows
    assert told[2][0] == "z" and sorted(told[2][1].split()) == ["w20", "w21", "w22"]
    torch.testing.assert_close((output.weights() > 0).sum(0), torch.full((3,), 3))


def test_what_the_model_says_of_any_input_falls_out():
    """A bias of the model towards some tokens changes neither the words nor the answers."""
    labels = np.arange(24) % 3
    bias = torch.randn(len(TOKENS), generator=torch.Generator().manual_seed(1))
    found = []
    for added in (torch.zeros_like(bias), bias):
        seen, new = answers(labels, 0), answers(labels, 1)
        output = built(words=2, likely=60)
        output.fit([SourceOutput(seen.logits.log_softmax(1) + added)], torch.tensor(labels))
        found.append(output([SourceOutput(new.logits.log_softmax(1) + added)]).softmax(1))
    assert (found[0] - found[1]).abs().max() < 0.2 and (found[0].argmax(1) == found[1].argmax(1)).float().mean() > 0.95


def test_leaving_one_out_equals_counting_the_rest():
    labels = torch.arange(12) % 3
    values, one_hot = answers(labels, 2).logits.double(), torch.nn.functional.one_hot(labels, 3).double()
    rest = torch.arange(12) != 5
    without, again = _Evidence(values, one_hot, 40, 0.3).without(5), _Evidence(values[rest], one_hot[rest], 40, 0.3)
    for name in ("mean", "centre", "deviation"):
        torch.testing.assert_close(getattr(without, name), getattr(again, name))
    torch.testing.assert_close(without.best(5), again.best(5))


def test_left_out_answers_are_no_better_than_fresh_ones():
    """Classes that cannot be told apart: an honest left-out answer hits one in three, an overfitted one nearly all."""
    labels, found = np.arange(60) % 3, []
    for seed in range(6):
        output = built()
        output.fit([answers(labels, seed, rise=0.0)], torch.tensor(labels))
        found.append(float((output.left_out.argmax(1).numpy() == labels).mean()))
    assert np.mean(found) < 0.48


def test_only_likely_tokens_are_looked_at():
    output, labels = built(words=2, likely=18), np.arange(48) % 3
    output.fit([answers(labels, 0)], torch.tensor(labels))
    assert int(output.index.max()) < 30  # the planted 20, 21, 22 became likely; w30 to w59 never are


def test_names_answer_without_a_label_help_where_labels_are_few_and_are_dropped_where_they_mislead():
    good, wrong = ("w3", "w10", "w20"), ("w40", "w41", "w42")
    named = built(good)
    raw = answers(np.arange(30) % 3, 5)
    expected = raw.logits.double().log_softmax(1)[:, [3, 10, 20]].float()
    torch.testing.assert_close(named([raw]), expected)
    one, gains = np.arange(3), []
    for seed in range(5):
        found = []
        for names in (good, ("x", "y", "z")):
            output = built(names)
            output.fit([answers(one, seed)], torch.tensor(one))
            found.append(hits(output))
        gains.append(found[0] - found[1])
    assert np.mean(gains) > 0.1
    labels = np.arange(48) % 3
    output = built(wrong)
    output.fit([answers(labels, 0)], torch.tensor(labels))
    assert hits(output) > 0.9


def test_a_class_without_an_example_or_with_one_keeps_its_column():
    labels = np.array([0, 0, 0, 1, 1, 1, 0])
    output = built()
    output.fit([answers(labels, 0)], torch.tensor(labels))
    assert output([answers(np.arange(6) % 3, 1)]).isfinite().all()
    output = built(("w3", "w10", "w20"))
    output.fit([answers([0, 1], 0)], torch.tensor([0, 1]))
    assert output([answers(np.arange(6) % 3, 1)]).isfinite().all()


def test_what_has_no_tokens_to_fill_in_is_refused(text_models):
    info = TargetInfo("toy", "text", "classification", ("a", "b"))
    encoder = TextSource(text_models("bert"))
    for spec in (encoder.spec, SourceSpec("image", 32, ("cat", "dog"), feature_size=4)):
        with pytest.raises(ConfigError, match=r"output=verbaliser needs a source that fills in tokens"):
            Verbaliser().build(spec, info)
    with pytest.raises(ConfigError, match="no words yet"):
        built()([answers([0], 0)])
    with pytest.raises(ConfigError, match=r"output\.width"):
        built(width=10**6)


@pytest.mark.parametrize(("kind", "template"), [("masked", "{} was [MASK]"), ("gpt2", "{} was")])
def test_a_masked_and_a_causal_model_are_read_where_the_answer_stands(text_models, kind, template):
    source = TextSource(text_models(kind))
    texts, labels = ["good film", "bad film"] * 6, np.arange(12) % 2
    info = TargetInfo("toy", "text", "classification", ("good", "bad"))
    model = ReprogrammedModel(source, PromptText(template=template), Verbaliser(words=2), info)
    fit(model, StringExamples(texts, labels))
    assert (model.predict(StringExamples(texts, labels)) == labels).all()


@pytest.mark.parametrize("shots", [0, 4])
def test_the_whole_way_with_a_masked_model(typed, text_models, tmp_path, shots):
    lines = [f"{('bad', 'good')[i % 2]} film {'abcdefgh'[i % 8]},{('bad', 'good')[i % 2]}" for i in range(40)]
    (tmp_path / "t.csv").write_text("\n".join(["text,label", *lines]) + "\n")
    source = ["source=text", f"source.model={text_models('masked')}", "device=cpu"]
    table = ["target=csv", "target.path=t.csv", "target.input_column=text", "target.label_column=label"]
    method = ["input=prompt_text", "input.template='{} it was [MASK]'", "output=verbaliser", "task.baselines=[]"]
    code, stderr = typed(*source, *table, *method, f"target.shots={shots}")
    assert code == 0, stderr
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["program"]["output"] == "verbaliser"
    assert from_pretrained(tmp_path / "run" / "program").output.width > 0
