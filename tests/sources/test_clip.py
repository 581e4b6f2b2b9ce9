"""CLIP with text prompts as source labels, tiny random weights, no network."""

import json
from pathlib import Path

import pytest
import torch
import transformers
from PIL import Image

from reprogram.errors import ConfigError, SourceError
from reprogram.interfaces import Tap
from reprogram.sources.clip import CLIPSource
from reprogram.sources.huggingface import HuggingFaceImageModel


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("clip")
    torch.manual_seed(0)
    tower = dict(hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2)
    words = [
        "<|startoftext|>",
        "<|endoftext|>",
        *"abcdefghijklmnopqrstuvwxyz.",
        *(f"{c}</w>" for c in "abcdefghijklmnopqrstuvwxyz."),
    ]
    config = transformers.CLIPConfig(
        text_config=dict(**tower, vocab_size=len(words), max_position_embeddings=40, bos_token_id=0, eos_token_id=1),
        vision_config=dict(**tower, image_size=32, patch_size=8),
        projection_dim=12,
    )
    transformers.CLIPModel(config).save_pretrained(path)
    vocabulary = {word: i for i, word in enumerate(words)}
    (path / "vocab.json").write_text(json.dumps(vocabulary))
    (path / "merges.txt").write_text("#version: 0.2\n")
    transformers.CLIPTokenizer(vocab=vocabulary, merges=[]).save_pretrained(path)
    settings = {"crop_size": 32, "do_center_crop": True, "do_normalize": True, "image_mean": [0.5] * 3}
    (path / "preprocessor_config.json").write_text(json.dumps(settings | {"image_std": [0.25] * 3}))
    return str(path)


def test_logits_are_those_of_clip_with_the_prompts(folder):
    source = CLIPSource(folder, labels=["cat", "dog", "red fox"])
    theirs = transformers.CLIPModel.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    tokens = tokenizer([f"This is a photo of a {n}." for n in source.labels], padding=True, return_tensors="pt")
    pixels = torch.rand(4, 3, 32, 32)
    with torch.no_grad():
        expected = theirs(pixel_values=(pixels - 0.5) / 0.25, **tokens).logits_per_image
        torch.testing.assert_close(source(pixels).logits, expected, rtol=1e-4, atol=1e-4)
    assert source.labels == ("cat", "dog", "red fox") and source.spec.feature_size == 12


def test_templates_and_labels_are_part_of_the_fingerprint(folder):
    one = CLIPSource(folder, labels=["cat", "dog"])
    other = CLIPSource(folder, labels=["cat", "dog"], templates=["a blurry {}.", "a drawing of a {}."])
    assert one.fingerprint() != other.fingerprint()
    assert one.fingerprint() == CLIPSource(folder, labels=["cat", "dog"]).fingerprint()


def test_other_sizes_taps_and_gradients(folder):
    source = CLIPSource(folder, labels=["cat", "dog"])
    pixels = torch.rand(2, 3, 41, 50, requires_grad=True)
    answer = source(pixels, [Tap("block_1", "2")])
    answer.logits.sum().backward()
    assert answer.taps[Tap("block_1", "2")].shape == (2, 64) and pixels.grad.abs().sum() > 0


def test_random_weights_keep_the_labels(folder):
    source = CLIPSource(folder, labels=["cat", "dog"])
    assert source.with_random_weights(3).labels == source.labels
    assert source.with_random_weights(3).fingerprint() != source.fingerprint()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"labels": ["cat", "cat"]}, "different names"),
        ({"labels": []}, "at least one"),
        ({"templates": ["a photo"]}, "must contain {} once"),
        ({"templates": []}, "must be a value, not an empty one"),
    ],
)
def test_wrong_prompts_get_a_sentence(folder, options, sentence):
    with pytest.raises(ConfigError, match=sentence):
        CLIPSource(folder, **{"labels": ["cat"], **options})


def test_the_wrong_loader_says_which_is_right(folder, tmp_path):
    with pytest.raises(SourceError, match="use source=clip"):
        HuggingFaceImageModel(folder)
    config = transformers.ViTConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8)
    transformers.ViTModel(config).save_pretrained(tmp_path)
    with pytest.raises(SourceError, match="not a CLIP or SigLIP model; use source=huggingface"):
        CLIPSource(str(tmp_path), labels=["cat"])


def test_labels_that_read_as_the_same_tokens_are_refused(folder, tmp_path):
    """Trap: without tokenizer files transformers makes an empty one, and every label has the same text feature."""
    copy = tmp_path / "bare"
    copy.mkdir()
    for file in ("config.json", "model.safetensors", "preprocessor_config.json"):
        (copy / file).write_bytes((Path(folder) / file).read_bytes())
    with pytest.raises(SourceError, match="tokenizer") as error:
        CLIPSource(str(copy), labels=["cat", "dog"])
    assert "\n" not in str(error.value) and "Traceback" not in str(error.value)
    with pytest.raises(SourceError, match=r"reads 'a{60}b' and 'a{60}c' as the same tokens.*longer than it reads"):
        CLIPSource(folder, labels=["a" * 60 + "b", "a" * 60 + "c"])


def test_imagenet_names_are_the_default_and_all_different(folder):
    """Trap: 'crane' is a bird and a machine, so that the default labels were refused."""
    source = CLIPSource(folder, templates=["{}"])
    assert len(set(source.labels)) == 1000 and source.labels[134] == "crane bird"
    assert source.labels[517] == "construction crane" and source.spec.labels[638] == "maillot"


def test_a_label_that_stands_twice_is_named(folder):
    with pytest.raises(ConfigError, match="'dog' occurs more than once"):
        CLIPSource(folder, labels=["dog", "cat", "dog"])


@pytest.fixture(scope="session")
def siglip(tmp_path_factory, save_words):
    path = tmp_path_factory.mktemp("siglip")
    torch.manual_seed(0)
    tower = dict(hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2)
    config = transformers.SiglipConfig(
        text_config=dict(**tower, vocab_size=61, max_position_embeddings=48, projection_size=16),
        vision_config=dict(**tower, image_size=32, patch_size=8),
    )
    model = transformers.SiglipModel(config)
    with torch.no_grad():
        model.logit_scale.fill_(1.5)
        model.logit_bias.fill_(-3.0)
    model.save_pretrained(path)
    save_words(path)
    (path / "preprocessor_config.json").write_text(json.dumps({"size": {"height": 32, "width": 32}}))
    return str(path)


def test_siglip_answers_with_its_scale_and_bias(siglip):
    source = CLIPSource(siglip, labels=["good", "bad"], templates=["the {} film"])
    theirs = transformers.SiglipModel.from_pretrained(siglip).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(siglip)
    ids = tokenizer(["the good film", "the bad film"], padding="max_length", max_length=48, return_tensors="pt").input_ids
    pixels = torch.rand(3, 3, 32, 32)
    with torch.no_grad():
        expected = theirs(pixel_values=(pixels - 0.5) / 0.5, input_ids=ids).logits_per_image
        answer = source(pixels, [Tap("block_2", "2")])
    torch.testing.assert_close(answer.logits, expected, rtol=1e-4, atol=1e-4)
    assert answer.features.shape == (3, source.spec.feature_size) == (3, 16)
    assert answer.taps[Tap("block_2", "2")].shape == (3, 64)
    assert source.with_random_weights(1).fingerprint() != source.fingerprint()


def test_siglip_is_sent_to_the_right_loader_once(siglip):
    with pytest.raises(SourceError, match="use source=clip"):
        HuggingFaceImageModel(siglip)
    assert CLIPSource(siglip, labels=["good", "bad"]).spec.labels == ("good", "bad")


def test_what_clip_reads_is_part_of_its_fingerprint(folder, tmp_path):
    before = CLIPSource(folder, labels=["cat", "dog"])
    for file in Path(folder).iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    settings = json.loads((tmp_path / "preprocessor_config.json").read_text()) | {"image_mean": [0.1] * 3}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(settings))
    after = CLIPSource(str(tmp_path), labels=["cat", "dog"])
    assert after.fingerprint() != before.fingerprint() and after.weights_fingerprint() == before.weights_fingerprint()


def test_names_are_read_as_labels_are(folder):
    source = CLIPSource(folder, labels=["cat", "red fox"])
    pixels = torch.rand(3, 3, 32, 32)
    names = source.spec.read_names(["This is a photo of a cat.", "This is a photo of a red fox."])
    found = source(pixels)
    torch.testing.assert_close(torch.nn.functional.normalize(found.features, dim=1) @ names.T, found.logits)


def test_images_are_told_by_class_names_alone(typed, folder, tmp_path):
    for name, red in (("cat", 30), ("dog", 200)):
        (tmp_path / "images" / name).mkdir(parents=True)
        for i in range(4):
            Image.new("RGB", (32, 32), (red + i, 3 * i, 9)).save(tmp_path / "images" / name / f"{i}.png")
    source = ["source=clip", f"source.name={folder}", "source.labels=[a,b]", "device=cpu", "task.baselines=[]"]
    target = ["target=image_folder", f"target.root={tmp_path / 'images'}", "target.shots=0", "target.test_size=4"]
    code, stderr = typed(*source, *target)
    assert code == 0, stderr
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["program"]["output"] == "label_names" and result["target"]["train_labels"] == 0
