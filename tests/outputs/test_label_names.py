"""Class names as the prior of the ridge: what zero labels answer, what few labels make of it, and names that mislead."""

import json

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge

from reprogram.artifact import from_pretrained
from reprogram.errors import ConfigError
from reprogram.featurisers import Spelling, Words
from reprogram.interfaces import SourceOutput, SourceSpec, TargetInfo
from reprogram.modalities import modality
from reprogram.outputs import label_names
from reprogram.outputs._ridge import highest_likelihood, inverse_temperature, left_out_paths
from reprogram.outputs.label_names import LabelNames, in_words
from reprogram.outputs.ridge_taps import RidgeTaps

CLASSES, WIDTH = tuple(f"t{i}" for i in range(6)), 24
MEANS = torch.nn.functional.normalize(torch.randn(6, WIDTH, generator=torch.Generator().manual_seed(5)), dim=1)
INFO = TargetInfo("toy", "text", "classification", CLASSES)


def spec_of(names):
    """A source whose names of classes are these vectors, and which remembers what it was asked to read."""
    asked = []

    def read(texts):
        asked.extend(texts)
        return names

    spec = SourceSpec("text", 32, (), feature_size=WIDTH, answers="none", read_names=read)
    return spec, asked


def answers(labels, seed, noise=1.0):
    generator = torch.Generator().manual_seed(seed)
    features = MEANS[torch.as_tensor(labels)] + noise * torch.randn(len(labels), WIDTH, generator=generator) / WIDTH**0.5
    return SourceOutput(torch.zeros(len(labels), 0), features)


def built(names, info=INFO, **options):
    output = LabelNames(**options)
    output.build(spec_of(names)[0], info)
    return output


def hits(output, noise=2.0):
    labels = np.arange(600) % 6
    return float((output([answers(labels, 9, noise)]).argmax(1).numpy() == labels).mean())


def test_a_search_over_text_prefers_the_mean_with_logistic_regressions_on_features_and_on_words():
    found = {c.name: c for c in modality("text").candidates(spec_of(MEANS)[0], INFO)}
    alone = found["class names, layers and plain features"]
    mean = found["mean of class names and logistic regressions on features and words"]
    assert mean.tags == ("preferred",) and mean.atoms == alone.atoms == (("text", {"features": ["spelling", "words"]}),)
    assert [member["name"] for member in mean.output[1]["members"]] == ["label_names", "logistic", "logistic"]
    assert [member["config"].get("feature") for member in mean.output[1]["members"]] == [None, None, "words"]


def test_spelling_is_of_length_one_and_finds_a_word_within_another():
    rows = Spelling()(["Filming", "films", "banana", ""])
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), [1, 1, 1, 0], atol=1e-6)
    assert rows[0] @ rows[1] > 0.3 and abs(rows[0] @ rows[2]) < 0.1
    np.testing.assert_array_equal(rows[:1], Spelling()(["filming"]))


def test_words_are_of_length_one_and_keep_punctuation_ends_and_links_but_not_capitals():
    rows = Words()(['"Great!"', "great", '" great ! "', '"great" !', "", "see https://a.b/c", "see http://d.e"])
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), [1, 1, 1, 1, 0, 1, 1], atol=1e-6)
    np.testing.assert_array_equal(rows[0], rows[2])
    np.testing.assert_array_equal(rows[5], rows[6])
    assert rows[0] @ rows[1] < 0.5 and 0.5 < rows[0] @ rows[3] < 0.95  # the same words and marks, but another end


def test_without_labels_the_logits_are_those_of_the_names():
    output, seen = built(10 * MEANS), answers(np.arange(12) % 6, 0)
    expected = torch.nn.functional.normalize(seen.features, dim=1) @ (10 * MEANS).T
    torch.testing.assert_close(output([seen]), expected)
    assert hits(output, 1.0) > 0.8


def test_left_out_paths_equal_n_refits_and_are_linear_in_the_targets():
    rng = np.random.default_rng(0)
    x, y, p, w = rng.normal(size=(14, 30)), rng.normal(size=(14, 3)), rng.normal(size=(14, 3)), rng.uniform(0.5, 2, 14)
    values, weight = torch.tensor(x), torch.tensor(w)
    left = left_out_paths(values, torch.tensor(y - 0.4 * p), weight, [0.01, 1.0])
    apart = [left_out_paths(values, torch.tensor(t), weight, [0.01, 1.0]) for t in (y, p)]
    torch.testing.assert_close(left, apart[0] - 0.4 * apart[1])
    for k, strength in enumerate((0.01, 1.0)):
        for i in (0, 7):
            rest = np.arange(14) != i
            one = Ridge(alpha=strength * w.sum()).fit(x[rest], (y - 0.4 * p)[rest], sample_weight=w[rest])
            assert np.allclose(left[k, i].numpy(), one.predict(x[i : i + 1])[0], atol=1e-7)


def test_likelihoods_are_those_of_the_best_inverse_temperature():
    generator = torch.Generator().manual_seed(1)
    targets = torch.eye(3, dtype=torch.float64).repeat(8, 1)
    several = 0.3 * targets + 0.2 * torch.randn(4, 24, 3, generator=generator, dtype=torch.float64)
    for left_out, found in zip(several, highest_likelihood(several, targets), strict=True):
        sharp = inverse_temperature(left_out, targets, exclusive=True)
        assert float(found) == pytest.approx(float((torch.log_softmax(left_out * sharp, 1) * targets).sum()), rel=1e-4)


def test_good_names_are_worth_labels_and_wrong_names_are_dropped():
    """One label a class: names win by far. Sixteen: names of other classes count less and cost next to nothing."""
    for each, least_gain in ((1, 0.1), (4, 0.03)):
        labels = np.arange(6 * each) % 6
        named, plain = built(10 * MEANS), RidgeTaps(balanced=True)
        plain.build(spec_of(MEANS)[0], INFO)
        for output in (named, plain):
            output.fit([answers(labels, each, 2.0)], torch.tensor(labels))
        assert hits(named) > hits(plain) + least_gain
    labels = np.arange(96) % 6
    shares, found = [], []
    plain = RidgeTaps(balanced=True)
    plain.build(spec_of(MEANS)[0], INFO)
    plain.fit([answers(labels, 3, 2.0)], torch.tensor(labels))
    for names in (10 * MEANS, 10 * MEANS.roll(1, 0)):
        output = built(names)
        output.fit([answers(labels, 3, 2.0)], torch.tensor(labels))
        shares.append(output.share)
        found.append(hits(output))
    assert shares[1] <= 0.1 < shares[0] and found[1] > hits(plain) - 0.03


def test_the_ridge_learns_what_the_names_leave_over(monkeypatch):
    """Hardly penalised, with more values than examples, it must give the labels back, whatever the names say."""
    monkeypatch.setattr(LabelNames, "_choose", lambda *_: (0.7, 1e-9))
    labels = np.arange(12) % 6
    seen, output = answers(labels, 0), built(10 * MEANS.roll(1, 0))
    output.fit([seen], torch.tensor(labels))
    times = output.amount / 0.7
    torch.testing.assert_close(output([seen]) / times, torch.eye(6)[labels], atol=1e-3, rtol=0)
    left_out = torch.softmax(output.left_out, 1)
    assert left_out.shape == (12, 6) and float(left_out[range(12), labels].mean()) < 0.9


def test_without_a_class_of_two_nothing_is_left_out_and_the_usual_share_is_taken(monkeypatch):
    monkeypatch.setattr(label_names, "highest_likelihood", None)
    output = built(10 * MEANS.roll(1, 0))
    output.fit([answers(np.arange(6), 0)], torch.arange(6))
    assert output.share == label_names.USUAL_SHARE


def test_names_stand_in_a_sentence_and_descriptions_as_they_are():
    names = ("comp.sys.mac", "MoneyMarket")
    info = TargetInfo("toy", "text", "classification", names, descriptions=("comp.sys.mac", "banks lend"))
    spec, asked = spec_of(MEANS[:2])
    LabelNames().build(spec, info)
    assert asked == ["This text is about comp sys mac.", "banks lend"]
    assert in_words("_") == "_"
    assert TargetInfo.from_json(info.to_json()) == info and "descriptions" not in INFO.to_json()


@pytest.mark.parametrize(
    ("problem", "options", "sentence"),
    [("regression", {}, "needs classes"), ("classification", {"template": "about"}, "once, where the name")],
)
def test_what_cannot_be_is_one_sentence(problem, options, sentence):
    with pytest.raises(ConfigError, match=sentence):
        built(MEANS, TargetInfo("t", "text", problem, CLASSES), **options)
    with pytest.raises(ConfigError, match="reads class names"):
        LabelNames().build(SourceSpec("image", 32, (), feature_size=4), INFO)


@pytest.mark.parametrize("shots", [0, 1])
def test_the_whole_way_from_no_label_to_predictions(typed, text_models, tmp_path, shots):
    words = [("bad", "good")[i % 2] for i in range(40)]
    lines = [f"{word} film {'abcdefgh'[i % 8]}{'stuvwxyz'[i // 8]},{word}" for i, word in enumerate(words)]
    (tmp_path / "t.csv").write_text("\n".join(["text,label", *lines]) + "\n")
    model = ["source=text", f"source.model={text_models('bert')}", "device=cpu"]
    table = ["target=csv", "target.path=t.csv", "target.input_column=text"]
    few = [f"target.shots={shots}", "target.descriptions={bad: bad film}"]
    code, stderr = typed(*model, *table, "target.label_column=label", *few)
    assert code == 0, stderr
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["program"]["output"] == ("ensemble" if shots else "label_names")
    assert result["target"]["train_labels"] == 2 * shots
    assert result["auto"]["forecast"] is None and "random_source" in result["baselines"]
    assert ("linear_probe" in result["baselines"]) == (shots > 0)
    program = from_pretrained(tmp_path / "run" / "program")
    assert program.target.descriptions == ("bad film", "good")
    code, stderr = typed("task=predict", f"program={tmp_path / 'run' / 'program'}", *table, folder="new")
    assert code == 0, stderr


def test_without_labels_other_outputs_are_refused(typed, text_models, tmp_path):
    (tmp_path / "t.csv").write_text("\n".join(["text,label", *(f"film {i},{'ab'[i % 2]}" for i in range(20))]) + "\n")
    model = ["source=text", f"source.model={text_models('bert')}", "device=cpu", "output=ridge_taps"]
    table = ["target=csv", "target.path=t.csv", "target.input_column=text", "target.label_column=label", "target.shots=0"]
    code, stderr = typed(*model, *table)
    assert code == 2 and "output=label_names" in stderr
    code, stderr = typed(*model, *table, "target.descriptions={c: words}")
    assert code == 2 and "target.descriptions has 'c'" in stderr
