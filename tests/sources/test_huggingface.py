"""transformers image models from local folders, all with tiny random weights and no network."""

import json

import pytest
import torch
import transformers

from reprogram.errors import SourceError
from reprogram.inputs.full import Full
from reprogram.interfaces import Tap
from reprogram.model import ReprogrammedModel
from reprogram.outputs.linear import Linear as LinearMapping
from reprogram.sources.huggingface import HuggingFaceImageModel
from reprogram.training.loop import Training, fit

MEAN, STD = [0.4, 0.5, 0.6], [0.2, 0.3, 0.4]
VIT = dict(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, patch_size=8)
ARCHITECTURES = {
    "vit": (transformers.ViTForImageClassification, transformers.ViTConfig(**VIT, image_size=32, num_labels=5)),
    "convnext": (
        transformers.ConvNextForImageClassification,
        transformers.ConvNextConfig(hidden_sizes=[4, 4, 8, 8], depths=[1, 1, 1, 1], image_size=32, num_labels=5),
    ),
    "resnet": (
        transformers.ResNetForImageClassification,
        transformers.ResNetConfig(embedding_size=4, hidden_sizes=[4, 8], depths=[1, 1], num_labels=5),
    ),
    "swin": (
        transformers.SwinForImageClassification,
        transformers.SwinConfig(
            image_size=32, embed_dim=8, depths=[1, 1], num_heads=[1, 2], window_size=4, num_labels=5
        ),
    ),
    "dinov2": (transformers.Dinov2Model, transformers.Dinov2Config(**VIT, image_size=32)),
}


def save(folder, model, processor=True):
    model.save_pretrained(folder)
    if processor:
        settings = {"do_resize": True, "size": {"height": 32, "width": 32}, "do_rescale": True}
        settings |= {"rescale_factor": 1 / 255, "do_normalize": True, "image_mean": MEAN, "image_std": STD}
        (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    return str(folder)


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    made = {}
    for name, (architecture, config) in ARCHITECTURES.items():
        torch.manual_seed(0)
        made[name] = save(tmp_path_factory.mktemp(name), architecture(config))
    return made


@pytest.mark.parametrize("name", [n for n in ARCHITECTURES if n != "dinov2"])
def test_a_classifier_answers_what_transformers_answers(folders, name):
    source = HuggingFaceImageModel(folders[name])
    pixels = torch.rand(3, 3, 32, 32)
    theirs = transformers.AutoModelForImageClassification.from_pretrained(folders[name]).eval()
    normalised = (pixels - torch.tensor(MEAN).view(1, 3, 1, 1)) / torch.tensor(STD).view(1, 3, 1, 1)
    with torch.no_grad():
        expected = theirs(normalised).logits
        found = source(pixels)
    torch.testing.assert_close(found.logits, expected, rtol=1e-4, atol=1e-5)
    assert source.labels == tuple(f"LABEL_{i}" for i in range(5))
    head = theirs.classifier[-1] if name == "resnet" else theirs.classifier
    torch.testing.assert_close(head(found.features), expected, rtol=1e-4, atol=1e-5)
    assert found.features.shape == (3, source.spec.feature_size)


def test_a_backbone_without_a_head_answers_features_only(folders):
    source = HuggingFaceImageModel(folders["dinov2"])
    answer = source(torch.rand(2, 3, 32, 32))
    assert source.spec.answers == "none" and source.labels == ()
    assert answer.logits.shape == (2, 0) and answer.features.shape == (2, 16)


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("shape", [(1, 1), (28, 28), (40, 56)])
def test_every_image_size_is_read(folders, name, shape):
    source = HuggingFaceImageModel(folders[name])
    answer = source(torch.rand(2, 3, *shape), [Tap(source.spec.taps[-1], "1")])
    assert torch.isfinite(answer.features).all()
    assert next(iter(answer.taps.values())).shape[0] == 2


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_taps_are_hidden_states_on_their_grid(folders, name):
    source = HuggingFaceImageModel(folders[name])
    pixels = torch.rand(2, 3, 32, 32)
    taps = [Tap(layer, pooling) for layer in source.spec.taps for pooling in ("1", "2")]
    answer = source(pixels, taps)
    assert set(answer.taps) == set(taps)
    for tap, value in answer.taps.items():
        assert value.shape[1] % int(tap.pooling) ** 2 == 0
    normalised = source.preprocessing(pixels)
    states = source.model(normalised, output_hidden_states=True)
    if name in ("vit", "dinov2"):  # class token first, then 4 x 4 patches
        torch.testing.assert_close(answer.taps[Tap("block_2", "1")], states.hidden_states[2][:, 1:].mean(1))
        corner = states.hidden_states[1][:, 1:].reshape(2, 4, 4, 16)[:, :2, :2].mean((1, 2))
        torch.testing.assert_close(answer.taps[Tap("block_1", "2")].reshape(2, 16, 2, 2)[:, :, 0, 0], corner)
    if name == "convnext":
        torch.testing.assert_close(answer.taps[Tap("block_1", "1")], states.hidden_states[1].mean((2, 3)))


def test_an_unknown_tap_names_the_nearest(folders):
    with pytest.raises(SourceError, match=r"no layer 'block_9'.*'block_"):
        HuggingFaceImageModel(folders["vit"])(torch.rand(1, 3, 32, 32), [Tap("block_9")])


def test_gradients_reach_the_pixels(folders):
    pixels = torch.rand(2, 3, 24, 24, requires_grad=True)
    HuggingFaceImageModel(folders["vit"])(pixels).logits.sum().backward()
    assert pixels.grad.abs().sum() > 0


def test_batch_norm_stays_frozen_even_when_a_caller_says_train(folders):
    source = HuggingFaceImageModel(folders["resnet"])
    before = source.fingerprint()
    source.train()
    for module in source.modules():
        module.training = True  # what module.train() does to a submodule that somebody got hold of
    pixels = torch.rand(4, 3, 32, 32, requires_grad=True)
    source(pixels).logits.sum().backward()
    assert source.fingerprint() == before
    assert not any(p.requires_grad for p in source.parameters())


@pytest.mark.parametrize("name", ["resnet", "convnext"])
def test_training_a_program_leaves_the_fingerprint(folders, name, easy_images):
    examples, info = easy_images
    source = HuggingFaceImageModel(folders[name])
    model = ReprogrammedModel(source, Full(size=32), LinearMapping(), info)
    prompt, before = model.input.delta.detach().clone(), source.fingerprint()
    model.train()
    fit(model, examples, Training(epochs=1, batch_size=10))
    assert source.fingerprint() == before and not torch.equal(prompt, model.input.delta)


def test_random_weights_are_the_same_architecture_by_seed(folders):
    source = HuggingFaceImageModel(folders["vit"])
    first, again, other = (source.with_random_weights(seed) for seed in (1, 1, 2))
    assert first.fingerprint() == again.fingerprint() != other.fingerprint()
    assert first.parameter_count() == source.parameter_count() and first.fingerprint() != source.fingerprint()


def test_a_source_can_be_found_again_from_its_origin(folders):
    source = HuggingFaceImageModel(folders["vit"])
    assert source.origin() == {"loader": "huggingface", "options": {"name": folders["vit"]}}


def test_preprocessing_follows_the_configuration(tmp_path):
    folder = save(tmp_path, transformers.ViTForImageClassification(ARCHITECTURES["vit"][1]), processor=False)
    settings = {"do_center_crop": True, "crop_size": {"height": 24, "width": 24}, "size": {"shortest_edge": 32}}
    settings |= {"do_rescale": False, "do_normalize": True, "image_mean": [127.0] * 3, "image_std": [128.0] * 3}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(settings))
    source = HuggingFaceImageModel(folder)
    assert source.spec.size == 24
    torch.testing.assert_close(source.preprocessing(torch.ones(1, 3, 1, 1)), torch.ones(1, 3, 1, 1))


def broken(tmp_path, kind):
    torch.manual_seed(0)
    architecture, config = ARCHITECTURES["vit"]
    if kind == "missing folder":
        return str(tmp_path / "nowhere")
    if kind == "empty folder":
        return str(tmp_path)
    if kind == "no preprocessing":
        return save(tmp_path, architecture(config), processor=False)
    folder = save(tmp_path, architecture(config))
    weights, configuration = tmp_path / "model.safetensors", tmp_path / "config.json"
    if kind == "truncated weights":
        weights.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])
    if kind == "no weights":
        weights.unlink()
    if kind == "truncated config":
        configuration.write_text(configuration.read_text()[:40])
    if kind == "other architecture":
        ARCHITECTURES["resnet"][0](ARCHITECTURES["resnet"][1]).save_pretrained(tmp_path / "other")
        weights.write_bytes((tmp_path / "other" / "model.safetensors").read_bytes())
    if kind == "other width":
        settings = json.loads(configuration.read_text()) | {"hidden_size": 8, "intermediate_size": 16}
        configuration.write_text(json.dumps(settings))
    if kind == "text model":
        tiny = transformers.BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, vocab_size=20)
        transformers.BertModel(tiny).save_pretrained(tmp_path)
    return folder


SENTENCES = {
    "missing folder": "is not a model folder",
    "empty folder": "config.json is missing",
    "no preprocessing": "give source.mean and source.std",
    "truncated weights": "The weights of .* cannot be read",
    "no weights": "The weights of .* cannot be read",
    "truncated config": "holds no readable model",
    "other architecture": "are not those of ViTForImageClassification",
    "other width": "The weights of .* cannot be read",
    "text model": "is 'bert' .*not an image model",
}


@pytest.mark.parametrize("kind", SENTENCES)
def test_a_broken_folder_gets_one_sentence(tmp_path, kind):
    with pytest.raises(SourceError, match=SENTENCES[kind]) as error:
        HuggingFaceImageModel(broken(tmp_path, kind))
    assert "\n" not in str(error.value) and len(str(error.value)) < 400


def test_a_hub_name_without_network_gets_one_sentence(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(SourceError, match="'microsoft/no-such-model-here' is not a local folder and cannot be loaded"):
        HuggingFaceImageModel("microsoft/no-such-model-here")


def test_pooler_missing_from_a_checkpoint_is_left_out_instead_of_drawn(tmp_path):
    folder = save(tmp_path, transformers.ViTModel(ARCHITECTURES["vit"][1], add_pooling_layer=False))
    first, again = HuggingFaceImageModel(folder), HuggingFaceImageModel(folder)
    assert first.fingerprint() == again.fingerprint()
    assert first(torch.rand(1, 3, 32, 32)).features.shape == (1, 16)
