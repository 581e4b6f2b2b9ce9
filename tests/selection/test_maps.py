"""Maps of tokens enter the search where the source has none for the strings, and are scored on what they never saw."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from reprogram.interfaces import SourceSpec, TargetInfo, TargetTask
from reprogram.modalities import modality
from reprogram.modalities.sequence import Sequence
from reprogram.selection import choose as choose_module
from reprogram.selection import maps
from reprogram.selection.choose import Auto, choose
from reprogram.selection.crossval import make_folds
from reprogram.sources.text import TextSource
from reprogram.targets.base import StringExamples

UNTRAINED = ("layers, untrained token_map", "mean of layers and Gaussian process, untrained token_map")
INFO = TargetInfo("toy", "sequence", "classification", ("other", "rich in lysine"))


def peptides(count=24, letters="KLVW"):
    """The share of K tells the class; no letter but C, N, O, S, P, F and I is a token of the SMILES model."""
    rng, labels = np.random.default_rng(0), np.arange(count) % 2
    strings = []
    for label in labels:
        chances = [0.7, 0.1, 0.1, 0.1] if label else [0.1, 0.3, 0.3, 0.3]
        strings.append("".join(rng.choice(list(letters), 8, p=chances)))
    return TargetTask(INFO, StringExamples(strings, labels), StringExamples(strings[:2], labels[:2]))


@pytest.fixture(scope="module")
def chemist(text_models):
    return TextSource(text_models("smiles"), tokenizer="smiles")


@pytest.fixture
def quick(monkeypatch):
    for name, value in (("TRIAL", 1), ("WHOLE", 2), ("TRAININGS", 3)):
        monkeypatch.setattr(maps, name, value)
    return Auto(minutes=2.0, folds=4, ensemble=1)


def test_how_much_a_source_has_no_token_for(chemist, text_models):
    assert maps.unread_share(chemist, peptides()) > 0.9
    assert maps.unread_share(TextSource(text_models("bert")), peptides(letters="klvw")) == 0
    assert maps.unread_share(chemist, peptides(letters="МОЛЬ")) == 0  # nor has a map


def test_a_source_of_another_domain_gets_a_map_that_is_judged_on_labels_it_never_saw(chemist, quick, empty_run, monkeypatch):
    learned, train = [], maps.train_map

    def watched(candidate, source, target, rows, seed, epochs=2, hooks=()):
        learned.append((candidate.input[0], epochs, set(rows.tolist())))
        return train(candidate, source, target, rows, seed, epochs, hooks)

    monkeypatch.setattr(maps, "train_map", watched)
    found = choose([chemist], peptides(), quick, empty_run)
    rows = {row["candidate"]: row for row in found.rows}
    assert rows["layers"]["status"] == "failed" and rows["layers, untrained token_map"]["status"] in ("scored", "chosen")
    trained = [name for name, row in rows.items() if " trained" in name and "squared_error" in row]
    assert len(trained) == 1 and found.model.input.name in ("token_map", "dense_token_map", "soft_prompt")
    held = [set(range(24)) - part for name, epochs, part in learned if epochs == 2 and len(part) < 24]
    assert len(held) == 3 and set.union(*held) == set(range(24)) and sum(map(len, held)) == 24


def test_where_the_source_reads_the_letters_the_untrained_map_costs_one_pass(text_models, empty_run, monkeypatch):
    """Trap: the map was proposed only where the source has no token for the letters, and lost to it by four points."""
    read, ask = [], choose_module.source_outputs

    def watched(source, examples, info, reader, taps):
        read.append(reader.name)
        return ask(source, examples, info, reader, taps)

    monkeypatch.setattr(choose_module, "source_outputs", watched)
    monkeypatch.setattr(Sequence, "own", lambda self, layers, source: [])  # slower ones, all read by input=text
    task = peptides(letters="klvw")
    found = choose([TextSource(text_models("bert"))], task, Auto(minutes=2.0, folds=2, ensemble=1), empty_run)
    rows = {row["candidate"]: row for row in found.rows}
    assert all(rows[name]["status"] in ("scored", "chosen") and "squared_error" in rows[name] for name in UNTRAINED)
    assert found.candidate.name == UNTRAINED[1] and found.model.input.name == "token_map"
    assert read.count("token_map") == 1 and not any(" trained" in name for name in rows)


def test_the_untrained_map_is_proposed_for_letters_and_not_for_words_or_behind_a_tokenizer(text_models):
    spec = TextSource(text_models("bert")).spec
    known = {kind: modality(kind).candidates(spec, INFO) for kind in ("sequence", "text", "molecule")}
    assert {kind for kind, listed in known.items() if set(UNTRAINED) & {c.name for c in listed}} == {"sequence"}
    assert [c.tags for c in known["sequence"] if c.name in UNTRAINED] == [(), ("preferred",)]
    remote = SourceSpec("text", 32, (), feature_size=8, taps=("layer_1",), answers="none")
    assert not {c.input[0] for c in modality("sequence").candidates(remote, INFO)} & {"token_map"}


def test_a_source_that_lacks_the_letters_gets_the_untrained_map_once(chemist):
    listed = modality("sequence").candidates(chemist.spec, INFO)
    assert [c.name for c in maps.untrained(peptides(), 0)] == list(UNTRAINED)
    assert [c.keys() for c in listed if c.name in UNTRAINED] == [c.keys() for c in maps.untrained(peptides(), 0)]


def test_no_time_no_map(chemist, monkeypatch):
    monkeypatch.setattr(maps, "TRIAL", 1)
    monkeypatch.setattr(maps, "SLACK", 1e9)
    task = peptides()
    folds = make_folds(task.train.labels, INFO.classes, 4, 1, 0)
    found = maps.Maps(chemist, 0, task, folds, 0, lambda: 60.0).run(lambda candidate: candidate.name)
    assert not found.candidates and not found.scored and len(found.cut) == 3
    assert all("did not fit into the time left" in row["why"] for row in found.rows.values())


@pytest.mark.parametrize(("minutes", "trials", "epochs"), [(1.5, 1, 2), (3.5, 3, 4)])
def test_the_race_ends_with_the_epoch_in_which_its_time_is_over(chemist, monkeypatch, minutes, trials, epochs):
    """A clock on which an epoch takes a minute; trials look cheap, so that only the clock can end what follows them."""
    clock, passed = [0.0], []
    end = maps.Deadline.on_epoch_end

    def minute(self, *arguments):
        clock[0] += 60.0
        passed.append(clock[0])
        end(self, *arguments)

    monkeypatch.setattr(maps.Deadline, "on_epoch_end", minute)
    monkeypatch.setattr(maps, "TRIAL", 2 if trials == 1 else 1)
    monkeypatch.setattr(maps, "WHOLE", 3)
    task = peptides()
    folds = make_folds(task.train.labels, INFO.classes, 4, 1, 0)
    found = maps.Maps(chemist, 0, task, folds, 0, lambda: 60 * minutes - clock[0]).run(lambda candidate: candidate.name)
    assert len(passed) == epochs and not found.scored and not found.candidates
    assert sum("the time was over" in row["why"] for row in found.rows.values()) == 1
    assert len(found.cut) == (3 if trials == 1 else 1)


def test_where_not_all_trainings_fit_the_map_counts_on_the_labels_that_it_was_judged_on(chemist, quick, monkeypatch):
    """A clock on which an epoch takes a second, and time for the trials and one whole training, not for two."""
    clock = [0.0]
    end = maps.Deadline.on_epoch_end

    def second(self, *arguments):
        clock[0] += 1.0
        end(self, *arguments)

    monkeypatch.setattr(maps.Deadline, "on_epoch_end", second)
    monkeypatch.setattr(maps, "SLACK", 0.0)
    task = peptides()
    folds = make_folds(task.train.labels, INFO.classes, 4, 1, 0)
    race = maps.Maps(chemist, 0, task, folds, 0, lambda: 5.5 - clock[0])
    found = race.run(lambda candidate: candidate.name)
    ((name, logits),) = found.scored.items()
    judged = logits.isfinite().all(2).any(0).numpy()
    np.testing.assert_array_equal(judged, race.groups()[0])
    assert found.cut == {name} and "1 of 3 groups" in found.rows[name]["why"] and len(found.candidates) == 1


def test_no_trial_takes_the_time_of_the_only_training(chemist, quick, monkeypatch):
    """An epoch takes a second: a second trial would leave too little for the two epochs of a training."""
    clock, end = [0.0], maps.Deadline.on_epoch_end

    def second(self, *arguments):
        clock[0] += 1.0
        end(self, *arguments)

    monkeypatch.setattr(maps.Deadline, "on_epoch_end", second)
    monkeypatch.setattr(maps, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    task = peptides()
    folds = make_folds(task.train.labels, INFO.classes, 4, 1, 0)
    found = maps.Maps(chemist, 0, task, folds, 0, lambda: 4.5 - clock[0]).run(lambda candidate: candidate.name)
    assert list(found.scored) == ["layers, trained token_map"] and clock[0] == 3.0
    assert "a trial and a training did not fit" in found.rows["layers, trained dense_token_map"]["why"]


def test_a_map_that_was_chosen_is_trained_on_all_labels(chemist, monkeypatch):
    task = peptides()
    monkeypatch.setattr(maps, "WHOLE", 1)
    model = maps.train_map(maps.untrained(task, 0)[0], chemist, task, np.arange(24), 0, epochs=1)
    assert (model.predict(task.train) == task.train.labels).mean() > 0.7
