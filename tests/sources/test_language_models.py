"""Every family of language models: fed by embeddings it answers as it does for the tokens themselves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import transformers

from reprogram.errors import ReprogramError, SourceError
from reprogram.inputs.soft_prompt import SoftPrompt
from reprogram.interfaces import Tap, TargetInfo
from reprogram.model import ReprogrammedModel
from reprogram.outputs.ridge_taps import RidgeTaps
from reprogram.sources.text import TextSource
from reprogram.targets.base import StringExamples
from reprogram.training.backpropagation import Backpropagation
from reprogram.training.loop import Training, fit

TEXTS = ["good film", "bad", "the [MASK] film", "a b c d e f", "z", "a " * 60]
INFO = TargetInfo("films", "text", "classification", ("bad", "good"))


VOCABULARY = 61  # tokens of the tokenizer in conftest.py
STATES = dict(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32)
BERT = STATES | dict(vocab_size=VOCABULARY, max_position_embeddings=48, pad_token_id=0)
GPT = STATES | dict(vocab_size=VOCABULARY, max_position_embeddings=48)
T5 = dict(vocab_size=VOCABULARY, d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2)
BART = dict(
    vocab_size=VOCABULARY, d_model=16, encoder_layers=2, decoder_layers=2, encoder_attention_heads=2,
    decoder_attention_heads=2, encoder_ffn_dim=32, decoder_ffn_dim=32, max_position_embeddings=48, pad_token_id=0,
)  # fmt: skip
ENDS = dict(bos_token_id=2, eos_token_id=3, decoder_start_token_id=3, forced_eos_token_id=3)
GROUPED = GPT | dict(num_key_value_heads=1)
OF_DISENTANGLED = BERT | dict(relative_attention=True, pos_att_type=["c2p", "p2c"])

MODELS = {  # name -> class, configuration class, its arguments, the head that is read
    "bert": ("BertForMaskedLM", "BertConfig", BERT, "masked_lm"),
    "bert as pretrained": ("BertForPreTraining", "BertConfig", BERT, "masked_lm"),
    "roberta": ("RobertaForMaskedLM", "RobertaConfig", BERT, "masked_lm"),
    "xlm-roberta": ("XLMRobertaModel", "XLMRobertaConfig", BERT, "encoder"),
    "albert": ("AlbertForMaskedLM", "AlbertConfig", BERT | dict(embedding_size=8), "masked_lm"),
    "electra discriminator": ("ElectraForPreTraining", "ElectraConfig", BERT | dict(embedding_size=8), "encoder"),
    "electra generator": ("ElectraForMaskedLM", "ElectraConfig", BERT | dict(embedding_size=8), "masked_lm"),
    "distilbert": (
        "DistilBertForMaskedLM",
        "DistilBertConfig",
        dict(vocab_size=VOCABULARY, dim=16, n_layers=2, n_heads=2, hidden_dim=32, max_position_embeddings=48),
        "masked_lm",
    ),
    "mpnet": ("MPNetForMaskedLM", "MPNetConfig", BERT | dict(pad_token_id=1), "masked_lm"),
    "esm2": (
        "EsmForMaskedLM",
        "EsmConfig",
        BERT | dict(mask_token_id=4, token_dropout=True, position_embedding_type="rotary"),
        "masked_lm",
    ),
    "esm1b": (
        "EsmForMaskedLM",
        "EsmConfig",
        BERT | dict(mask_token_id=4, token_dropout=True, position_embedding_type="absolute"),
        "masked_lm",
    ),
    "deberta": ("DebertaForMaskedLM", "DebertaConfig", OF_DISENTANGLED, "masked_lm"),
    "deberta-v2": ("DebertaV2ForMaskedLM", "DebertaV2Config", OF_DISENTANGLED, "masked_lm"),
    "modernbert": (
        "ModernBertForMaskedLM",
        "ModernBertConfig",
        BERT | dict(bos_token_id=2, eos_token_id=3, cls_token_id=2, sep_token_id=3),
        "masked_lm",
    ),
    "longformer": ("LongformerForMaskedLM", "LongformerConfig", BERT | dict(pad_token_id=1, attention_window=4), "masked_lm"),
    "squeezebert": ("SqueezeBertForMaskedLM", "SqueezeBertConfig", BERT | dict(embedding_size=16), "masked_lm"),
    "roformer": ("RoFormerForMaskedLM", "RoFormerConfig", BERT, "masked_lm"),
    "fnet": (
        "FNetForMaskedLM",
        "FNetConfig",
        {key: value for key, value in GPT.items() if key != "num_attention_heads"},
        "masked_lm",
    ),
    "xlnet": ("XLNetLMHeadModel", "XLNetConfig", dict(vocab_size=VOCABULARY, d_model=16, n_layer=2, n_head=2), "encoder"),
    "gpt2": (
        "GPT2LMHeadModel",
        "GPT2Config",
        dict(vocab_size=VOCABULARY, n_embd=16, n_layer=2, n_head=2, n_positions=48),
        "causal_lm",
    ),
    "opt": (
        "OPTForCausalLM",
        "OPTConfig",
        {k: v for k, v in BERT.items() if k != "intermediate_size"} | dict(ffn_dim=32, word_embed_proj_dim=8),
        "causal_lm",
    ),
    "llama": ("LlamaForCausalLM", "LlamaConfig", GPT, "causal_lm"),
    "gemma": ("GemmaForCausalLM", "GemmaConfig", GROUPED | dict(head_dim=8), "causal_lm"),
    "gemma3": ("Gemma3ForCausalLM", "Gemma3TextConfig", GROUPED | dict(head_dim=8), "causal_lm"),
    "gpt-neox": ("GPTNeoXForCausalLM", "GPTNeoXConfig", GPT, "causal_lm"),
    "bloom": ("BloomForCausalLM", "BloomConfig", dict(vocab_size=VOCABULARY, hidden_size=16, n_layer=2, n_head=2), "causal_lm"),
    "mamba": (
        "MambaForCausalLM",
        "MambaConfig",
        dict(vocab_size=VOCABULARY, hidden_size=16, num_hidden_layers=2, state_size=4),
        "causal_lm",
    ),
    "t5": ("T5ForConditionalGeneration", "T5Config", T5, "encoder"),
    "t5 encoder": ("T5EncoderModel", "T5Config", T5, "encoder"),
    "umt5": ("UMT5EncoderModel", "UMT5Config", T5, "encoder"),
    "bart": ("BartForConditionalGeneration", "BartConfig", BART | ENDS | dict(scale_embedding=True), "encoder"),
    "bart without a head": ("BartModel", "BartConfig", BART | ENDS, "encoder"),
    "pegasus": ("PegasusForConditionalGeneration", "PegasusConfig", BART, "encoder"),
}

@pytest.fixture(scope="module")
def save_model(save_words):
    """save_model(name, folder) -> the folder of a tiny model of this family, its weights large enough to show differences."""

    def save(name: str, folder: Path) -> str:
        architecture, configuration, options, _ = MODELS[name]
        torch.manual_seed(0)
        model = getattr(transformers, architecture)(getattr(transformers, configuration)(**options))
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim > 1:
                    parameter.mul_(3.0)
        model.save_pretrained(folder)
        save_words(folder)
        return str(folder)

    return save


@pytest.fixture(scope="module")
def source(request, tmp_path_factory, save_model):
    return TextSource(save_model(request.param, tmp_path_factory.mktemp("model")))


every_family = pytest.mark.parametrize("source", MODELS, indirect=True)


@every_family
def test_embeddings_give_the_answer_of_their_tokens(source, request):
    """Trap: with ``inputs_embeds`` ESM-2 leaves out its token-dropout factor (0.88), and BART and Gemma their scale."""
    assert source.head == MODELS[request.node.callspec.params["source"]][3]
    taps = [Tap(layer, "mean") for layer in source.spec.taps]
    padded = source.tokenise(TEXTS)
    embeddings = source.spec.vocabulary.embeddings()[padded["input_ids"]].detach().clone().requires_grad_()
    fed = {"inputs_embeds": embeddings, "attention_mask": padded["attention_mask"]}
    if source.spec.vocabulary.mask is not None:
        fed["answer_at"] = (padded["input_ids"] == 4).long().argmax(1)
        unmasked = fed["answer_at"] == 0  # a mask belongs where the answer is read
        fed = {key: value[~unmasked] for key, value in fed.items()}
        texts = [text for text, no in zip(TEXTS, unmasked.tolist(), strict=True) if not no]
    else:
        texts = TEXTS
    expected, answer = source(texts, taps), source(fed, taps)
    torch.testing.assert_close(answer.features, expected.features, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(answer.logits, expected.logits, rtol=1e-5, atol=1e-5)
    for tap in taps:
        torch.testing.assert_close(answer.taps[tap], expected.taps[tap], rtol=1e-5, atol=1e-5)
    answer.features.square().sum().backward()
    assert embeddings.grad.abs().sum() > 0


@every_family
def test_the_answer_is_that_of_transformers_for_one_string_alone(source):
    taps = [Tap(layer, "mean") for layer in source.spec.taps]
    together = source(TEXTS, taps)
    for row, text in enumerate(TEXTS):
        ids = source.tokenise([text])["input_ids"]
        with torch.no_grad():
            theirs = source.network.base_model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state[0]
        at = -1 if source.head == "causal_lm" else slice(None)
        expected = theirs[at] if source.head == "causal_lm" else theirs.mean(0)
        torch.testing.assert_close(together.features[row], expected, rtol=1e-4, atol=1e-4)
    assert len(taps) >= 2 and together.features.shape[1] == source.spec.feature_size
    if source.head == "encoder":
        return
    ids = source.tokenise([TEXTS[2]])["input_ids"]
    with torch.no_grad():
        whole = source.network(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0]
    place = -1 if source.head == "causal_lm" else int((ids[0] == 4).nonzero()[0])
    torch.testing.assert_close(together.logits[2], whole[place], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("source", ["t5", "bart", "electra discriminator", "esm2"], indirect=True)
def test_a_soft_prompt_is_trained_in_front_of_it(source):
    examples = StringExamples(["good film", "the bad film", "good", "bad"] * 2, torch.tensor([1, 0] * 4).numpy())
    model = ReprogrammedModel(source, SoftPrompt(length=2, words="the film"), RidgeTaps(), INFO)
    before = model.input.prompt.detach().clone()
    history = fit(model, examples, Training(epochs=2, batch_size=4, optimiser=Backpropagation()))
    assert len(history.epochs) == 2 and not torch.equal(before, model.input.prompt)
    assert model.predict_proba(["good", "bad"]).shape == (2, 2)


def test_the_decoder_of_an_encoder_decoder_is_not_asked_for_again(tmp_path, save_model):
    folder = save_model("bart", tmp_path)
    for head in ("masked_lm", "causal_lm"):
        with pytest.raises(SourceError, match=r"encoder-decoder \(bart\).*use source\.head=encoder") as error:
            TextSource(folder, head=head)
        assert "\n" not in str(error.value)
    assert TextSource(folder, head="encoder").fingerprint() == TextSource(folder).fingerprint()


@pytest.mark.parametrize("name", ["t5", "electra discriminator", "opt"])
def test_an_untrained_copy_has_the_same_shape(name, tmp_path, save_model):
    source = TextSource(save_model(name, tmp_path))
    other = source.with_random_weights(1)
    assert other.parameter_count() == source.parameter_count() and other.fingerprint() != source.fingerprint()


@pytest.mark.parametrize(
    ("architecture", "configuration", "options"),
    [
        ("CanineModel", "CanineConfig", dict(num_hash_buckets=32, max_position_embeddings=48)),
        ("NystromformerForMaskedLM", "NystromformerConfig", dict(segment_means_seq_len=48, num_landmarks=4, vocab_size=61)),
    ],
)
def test_what_cannot_be_read_is_refused_in_a_sentence(tmp_path, save_words, architecture, configuration, options):
    states = dict(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32)
    config = getattr(transformers, configuration)(**states, **options)
    getattr(transformers, architecture)(config).save_pretrained(tmp_path)
    save_words(tmp_path)
    with pytest.raises(SourceError, match=r"cannot be read here|cannot read a string") as error:
        TextSource(str(tmp_path))
    assert "\n" not in str(error.value)


def test_a_model_that_reads_ids_beside_embeddings_is_refused(text_models):
    source = TextSource(text_models("bert"))
    body = source.network.base_model
    plain = body.forward

    def peeking(input_ids=None, **more):
        out = plain(input_ids=input_ids, **more)
        out.last_hidden_state = out.last_hidden_state + input_ids.unsqueeze(-1)
        return out

    body.forward = peeking
    padded = source.tokenise(["good"])
    fed = {"inputs_embeds": source.spec.vocabulary.embeddings()[padded["input_ids"]]}
    with pytest.raises(SourceError, match="reads token ids beside their embeddings"):
        source(fed | {"attention_mask": padded["attention_mask"]})


@pytest.mark.parametrize(("file", "change"), [
    ("config.json", {"layer_norm_eps": 0.1}),
    ("tokenizer.json", {"model": {"good": 6, "bad": 5}}),
])  # fmt: skip
def test_the_fingerprint_covers_what_changes_answers(text_models, file, change):
    folder = Path(text_models("bert"))
    before = TextSource(str(folder))
    data = json.loads((folder / file).read_text())
    if file == "config.json":
        data |= change
    else:
        data["model"]["vocab"] |= change["model"]
    (folder / file).write_text(json.dumps(data))
    after = TextSource(str(folder))
    assert after.fingerprint() != before.fingerprint()
    assert after.weights_fingerprint() == before.weights_fingerprint()


def test_max_length_is_part_of_the_fingerprint(text_models):
    folder = text_models("bert")
    assert TextSource(folder).fingerprint() != TextSource(folder, max_length=20).fingerprint()


def test_strange_files_get_a_sentence(text_models):
    folder = Path(text_models("bert"))
    (folder / "tokenizer.json").write_text('{"model": 7}')
    with pytest.raises(ReprogramError) as error:
        TextSource(str(folder))
    assert "\n" not in str(error.value)


def test_code_that_lies_in_a_model_folder_is_not_run_and_not_asked_about(text_models, monkeypatch):
    """Trap: ``auto_map`` asks on stdin whether the folder's own code may run."""
    folder = Path(text_models("bert"))
    marker = folder / "ran"
    (folder / "code.py").write_text(f"open({str(marker)!r}, 'w')\nclass Model: ...\nclass Config: ...\n")
    auto_map = {"AutoConfig": "code.Config", "AutoModel": "code.Model", "AutoTokenizer": ["code.Model", None]}
    for file in ("config.json", "tokenizer_config.json"):
        data = json.loads((folder / file).read_text()) | {"auto_map": auto_map}
        (folder / file).write_text(json.dumps(data | ({"model_type": "mine"} if file == "config.json" else {})))
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asked on stdin"))
    with pytest.raises(SourceError) as error:
        TextSource(str(folder))
    assert "\n" not in str(error.value) and not marker.exists()
