"""A vocabulary that does not fit, strings that are cut: counted before a run, told in its notes, refused where it is most."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from reprogram.errors import SourceError
from reprogram.estimator import ReprogrammedClassifier
from reprogram.inputs.prompt_text import PromptText
from reprogram.inputs.soft_prompt import SoftPrompt
from reprogram.inputs.text import Text
from reprogram.inputs.token_map import TokenMap
from reprogram.interfaces import TargetInfo, TargetTask
from reprogram.model import ReprogrammedModel
from reprogram.outputs.ridge_taps import RidgeTaps
from reprogram.selection.choose import Auto, choose
from reprogram.sources.reading import reading_notes
from reprogram.sources.text import TextSource
from reprogram.targets.base import StringExamples
from reprogram.training.loop import Training, fit

SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
RESIDUES = [*"ACDEFGHIKLMNPQRSTVWY"]
SMILES = ["C", "c", "N", "n", "O", "Cl", "Br", "[nH]", "(", ")", "=", "1", "2"]
PIECES = ["good", "film", "##s", "##ing", "watch", "a"]
PROTEINS, MOLECULES = ["MKTAYIAK", "GAVLIPFW"], ["Clc1c[nH]cc1", "CC(=O)Br"]
INFO = TargetInfo("t", "text", "classification", ("a", "b"))


def bare(folder: Path, tokens: list[str], kind: str = "Bert") -> str:
    """A model folder with config.json, weights and vocab.txt, and no file that defines how strings become tokens."""
    torch.manual_seed(0)
    if kind == "GPT2":
        config = transformers.GPT2Config(vocab_size=len(tokens), n_embd=16, n_layer=1, n_head=2, n_positions=32)
        transformers.GPT2LMHeadModel(config).save_pretrained(folder)
    else:
        states = dict(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32)
        config = getattr(transformers, f"{kind}Config")(vocab_size=len(tokens), max_position_embeddings=32, **states)
        getattr(transformers, f"{kind}ForMaskedLM")(config).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(tokens) + "\n")
    return str(folder)


def texts_of(source: TextSource, string: str) -> list[str]:
    """The tokens that stand for a string, those around it included."""
    return [source.spec.vocabulary.tokens[i] for i in source.tokenise([string])["input_ids"][0].tolist()]


@pytest.mark.parametrize("kind", ["Bert", "Albert", "Electra"])
def test_a_bare_vocabulary_of_residues_is_read_residue_by_residue(tmp_path, kind):
    """Trap: transformers lower-cases it for BERT (every residue unknown) and wants a SentencePiece file for ALBERT."""
    source = TextSource(bare(tmp_path, SPECIALS + RESIDUES, kind))
    assert texts_of(source, "MKTA") == ["[CLS]", "M", "K", "T", "A", "[SEP]"] == texts_of(source, "M K T A")
    assert source.spec.vocabulary.mask == 4 and texts_of(source, "M[MASK]")[2] == "[MASK]"
    assert reading_notes(source, built(Text(), source), StringExamples(PROTEINS, np.arange(2))) == []


def test_a_bare_vocabulary_of_smiles_tokens(tmp_path):
    """Trap: an ALBERT folder with ``vocab.txt`` and source.tokenizer=smiles read every string as id 1."""
    folder = bare(tmp_path, SPECIALS + SMILES, "Albert")
    for tokenizer in ("smiles", "own"):
        source = TextSource(folder, tokenizer=tokenizer)
        assert texts_of(source, "Clc[nH]") == ["[CLS]", "Cl", "c", "[nH]", "[SEP]"]


def test_a_bare_vocabulary_of_a_model_that_reads_from_left_to_right(tmp_path):
    """Trap: GPT-2 with a vocabulary of residues read every string as empty."""
    source = TextSource(bare(tmp_path, SPECIALS + RESIDUES, "GPT2"))
    assert texts_of(source, "MKTA") == ["M", "K", "T", "A"] and source.head == "causal_lm"


@pytest.mark.parametrize(("tokens", "expected"), [
    (PIECES, ["good", "film", "##s"]), ([*PIECES, "Good"], ["Good", "film", "##s"]),
])  # fmt: skip
def test_word_pieces_are_lower_cased_where_the_vocabulary_has_no_capitals(tmp_path, tokens, expected):
    source = TextSource(bare(tmp_path, SPECIALS + tokens))
    assert texts_of(source, "Good films")[1:-1] == expected


def test_a_bare_list_of_many_whole_words_is_refused(tmp_path):
    folder = bare(tmp_path, SPECIALS + RESIDUES)
    (tmp_path / "vocab.txt").write_text("\n".join([*SPECIALS, *(f"w{i}" for i in range(30_000))]))
    with pytest.raises(SourceError, match=r"tokenizer\.json"):
        TextSource(folder)


def built(method, source):
    method.build(source.spec, INFO)
    return method


def test_a_vocabulary_that_does_not_fit_is_refused_before_anything_is_read(text_models):
    source = TextSource(text_models("bert"))
    strings = StringExamples(["МОЛЕКУЛА", "北京", "good", "ПРИВЕТ"], np.array([0, 1, 0, 1]))
    asked = []
    source.register_forward_hook(lambda *_: asked.append(True))
    model = ReprogrammedModel(source, Text(), RidgeTaps(), INFO)
    with pytest.raises(SourceError, match=r"reads nothing, or almost nothing, of 3 of 4 training strings \(75%\)") as error:
        fit(model, strings, Training(epochs=0))
    assert not asked and "\n" not in str(error.value)
    with pytest.raises(ValueError, match="vocabulary does not fit"):
        ReprogrammedClassifier(source, input="text").fit([*strings.strings], ["a", "b", "a", "b"])


def test_the_sentence_names_the_way_of_reading_that_fits(tmp_path):
    folder = Path(bare(tmp_path, SPECIALS + RESIDUES))
    transformers.BertTokenizer(  # one that breaks at spaces alone: a protein is one unknown word
        vocab={t: i for i, t in enumerate(SPECIALS + RESIDUES)}, do_lower_case=False
    ).save_pretrained(folder)
    source = TextSource(str(folder))
    with pytest.raises(SourceError, match=r"use input\.tokens=amino_acids, which it reads"):
        reading_notes(source, built(Text(), source), StringExamples(PROTEINS, np.arange(2)))
    assert reading_notes(source, built(Text(tokens="amino_acids"), source), StringExamples(PROTEINS, np.arange(2))) == []
    both = built(Text(tokens="own+amino_acids"), source)  # one view that reads them is enough
    assert reading_notes(source, both, StringExamples(PROTEINS, np.arange(2))) == []


def test_a_tokenizer_that_numbers_a_token_beyond_all_reason_is_refused(text_models, tmp_path):
    """A stranger's file asked for a list of a billion names."""
    folder = tmp_path / "model"
    shutil.copytree(text_models("bert"), folder)
    path = folder / "tokenizer.json"
    found = json.loads(path.read_text())
    last = max(found["model"]["vocab"], key=found["model"]["vocab"].get)
    found["model"]["vocab"][last] = 2**31
    path.write_text(json.dumps(found))
    with pytest.raises(SourceError, match=r"the number 2147483648, but it has only \d+ tokens"):
        TextSource(str(folder))


def test_a_few_unknown_characters_and_empty_strings_are_notes(text_models):
    source = TextSource(text_models("bert"))
    strings = ["good film", "bad", "the film 北", "a", "b", "", "c", "d", "e", "f"]
    notes = reading_notes(source, built(Text(), source), StringExamples(strings, np.zeros(10)))
    assert notes == [
        f"{source.name} reads nothing, or almost nothing, of 1 of 10 training strings.",
        f"2 of 10 training strings have characters without a token of {source.name} (11.2% of all characters).",
    ]
    half = StringExamples(["北京"] * 5 + ["good"] * 5, np.zeros(10))
    assert "50%" in reading_notes(source, built(Text(), source), half, "test", refuse=False)[0]


@pytest.mark.parametrize(("method", "long"), [
    (Text(), "a " * 47), (PromptText(template="the {} [MASK]"), "a " * 45), (SoftPrompt(length=4), "a " * 42),
    (TokenMap(tokens="characters", atoms=20), "a" * 46),
])  # fmt: skip
def test_what_is_cut_is_counted(text_models, method, long):
    source = TextSource(text_models("masked"))
    examples = StringExamples([long, long.strip()[:-1].strip(), "a", "b"], np.zeros(4))
    input = built(method, source)
    notes = reading_notes(source, input, examples)
    assert notes[-1] == (
        f"1 of 4 training strings (25.0%) are longer than the 48 tokens that {source.name} reads: cut."
    )


def test_other_sources_have_nothing_to_say(tiny_source, easy_images):
    assert reading_notes(tiny_source(), Text(), easy_images[0]) == []


def task(strings, labels):
    examples = StringExamples(strings, np.array(labels))
    return TargetTask(INFO, examples, examples)


def test_auto_drops_what_cannot_be_read_with_its_reason_and_keeps_the_notes(text_models, empty_run):
    source = TextSource(text_models("bert"))
    settings = Auto(minutes=1, folds=2)
    readable = task(["good film", "bad", "good 北", "the bad " * 40] * 4, [1, 0] * 8)
    found = choose([source], readable, settings, empty_run)
    assert any("cut" in note for note in found.notes) and any("without a token" in note for note in found.notes)
    with pytest.raises(SourceError, match="vocabulary does not fit"):
        choose([source], task(["МОЛ", "北京"] * 8, [1, 0] * 8), settings, empty_run)


def test_a_run_tells_in_its_result_and_report(typed, text_models, tmp_path):
    rows = [("good film " + "a " * 60 if i % 3 == 0 else "good 北", "yes") if i % 2 else ("bad film", "no") for i in range(24)]
    rows = [(f"{text} {chr(97 + i)}", label) for i, (text, label) in enumerate(rows)]
    (tmp_path / "data.csv").write_text("text,label\n" + "\n".join(f"{text},{label}" for text, label in rows))
    target = ["target=csv", f"target.path={tmp_path / 'data.csv'}", "target.input_column=text", "target.label_column=label"]
    source = ["source=text", f"source.model={text_models('bert')}"]
    program = ["input=text", "output=ridge_taps", "device=cpu", "task.baselines=[]"]
    code, error = typed(*source, *target, "target.test_size=0.25", *program)
    assert code in (0, None), error
    notes = " ".join(json.loads((tmp_path / "run" / "result.json").read_text())["target"]["notes"])
    assert "characters without a token" in notes and "training strings (" in notes and "cut." in notes
    assert "characters without a token" in (tmp_path / "run" / "report.html").read_text()


def test_the_estimator_warns(text_models):
    strings = ["good film", "bad", "good 北", "bad film"] * 3
    with pytest.warns(UserWarning, match="without a token"):
        ReprogrammedClassifier(TextSource(text_models("bert")), input="text").fit(strings, [1, 0] * 6)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        ReprogrammedClassifier(TextSource(text_models("bert")), input="text").fit(["good", "bad"] * 6, [1, 0] * 6)
