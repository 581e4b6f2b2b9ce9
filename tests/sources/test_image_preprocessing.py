"""What each family of image models answers is what transformers answers behind the model's own image processor."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import transformers
from transformers.models.auto.image_processing_auto import IMAGE_PROCESSOR_MAPPING_NAMES

from reprogram.errors import SourceError
from reprogram.inputs.none import NoPrompt
from reprogram.interfaces import TargetTask
from reprogram.selection.choose import Auto, choose
from reprogram.sources._transformers import load_preprocessing
from reprogram.sources.huggingface import HuggingFaceImageModel
from reprogram.sources.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing
from reprogram.sources.reading import reading_notes

STATES = dict(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32)
VIT = STATES | dict(image_size=32, patch_size=8)
STAGES = dict(hidden_sizes=[4, 4, 8, 8], depths=[1, 1, 1, 1])
WINDOWS = dict(image_size=64, embed_dim=8, depths=[2, 2], num_heads=[1, 2], window_size=7)
MODELS = {  # name -> prefix of its classes, arguments of its configuration
    "vit": ("ViT", VIT),
    "deit": ("DeiT", VIT),
    "vit_msn": ("ViTMSN", VIT),
    "beit": ("Beit", VIT | dict(use_relative_position_bias=True)),
    "data2vec": ("Data2VecVision", VIT),
    "dinov2": ("Dinov2", VIT),
    "swin": ("Swin", WINDOWS),
    "swinv2": ("Swinv2", WINDOWS),
    "convnext": ("ConvNext", STAGES),
    "convnextv2": ("ConvNextV2", STAGES),
    "resnet": ("ResNet", dict(embedding_size=4, hidden_sizes=[4, 8], depths=[1, 1])),
    "bit": ("Bit", dict(embedding_size=8, hidden_sizes=[8, 8], depths=[1, 1], num_groups=4)),
    "regnet": ("RegNet", STAGES | dict(embedding_size=4, groups_width=4)),
    "poolformer": ("PoolFormer", STAGES),
    "mobilenet_v1": ("MobileNetV1", dict(image_size=64, depth_multiplier=0.25)),
    "mobilenet_v2": ("MobileNetV2", dict(image_size=64, depth_multiplier=0.25)),
    "mobilevit": (
        "MobileViT",
        dict(image_size=64, hidden_sizes=[8, 8, 8], neck_hidden_sizes=[4, 4, 4, 8, 8, 8, 16], num_attention_heads=2),
    ),
    "mobilevitv2": ("MobileViTV2", dict(image_size=64, width_multiplier=0.25)),
    "efficientnet": (
        "EfficientNet",
        dict(image_size=64, width_coefficient=0.25, depth_coefficient=0.2, hidden_dim=320),
    ),
    "levit": (
        "Levit",
        dict(
            image_size=64, hidden_sizes=[8, 16, 16], num_attention_heads=[1, 2, 2], depths=[1, 1, 1], key_dim=[4, 4, 4]
        ),
    ),
    "pvt": ("Pvt", dict(image_size=64, hidden_sizes=[8] * 4, depths=[1] * 4, num_attention_heads=[1] * 4)),
    "pvt_v2": ("PvtV2", dict(image_size=64, hidden_sizes=[8] * 4, depths=[1] * 4, num_attention_heads=[1] * 4)),
    "focalnet": (
        "FocalNet",
        dict(image_size=64, embed_dim=8, depths=[1, 1], hidden_sizes=[8, 16], focal_levels=[1, 1], focal_windows=[3, 3]),
    ),
    "segformer": ("Segformer", dict(hidden_sizes=[8] * 4, depths=[1] * 4, num_attention_heads=[1] * 4)),
    "hiera": ("Hiera", dict(image_size=[64, 64], embed_dim=8, depths=[1] * 4, num_heads=[1] * 4)),
}


def save(name: str, folder: Path) -> str:
    """A tiny model with weights that make differences show, and the processor of its family as transformers makes it."""
    prefix, options = MODELS[name]
    torch.manual_seed(0)
    config = getattr(transformers, f"{prefix}Config")(**options, num_labels=5)
    model = getattr(transformers, f"{prefix}ForImageClassification")(config)
    side = options.get("image_size", 64)
    side = side if isinstance(side, int) else side[0]
    make_sensitive(model, side)
    model.save_pretrained(folder)
    size = {"height": side, "width": side}
    processor = getattr(transformers, IMAGE_PROCESSOR_MAPPING_NAMES[config.model_type]["pil"])
    processor(size=size, crop_size=size).save_pretrained(folder)
    return str(folder)


@torch.no_grad()
def make_sensitive(model: torch.nn.Module, side: int) -> None:
    """Weights that let colours through, and batch norms that fit them: fresh ones answer the same to every image."""
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1:
            parameter.normal_(0, 1.5 / parameter[0].numel() ** 0.5)
        else:
            parameter.normal_(0.0 if name.endswith("bias") else 1.0, 0.2)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d | torch.nn.BatchNorm1d):
            module.momentum = 1.0
    model.train()
    for _ in range(2):
        model(coloured(8, side) * 2 - 1)
    model.eval()


def coloured(count: int, side: int) -> torch.Tensor:
    """Images [N, 3, side, side] in [0, 1], each of a colour of its own."""
    generator = torch.Generator().manual_seed(0)
    tint = torch.rand(count, 3, 1, 1, generator=generator)
    return 0.7 * tint + 0.3 * torch.rand(count, 3, side, side, generator=generator)


def both_answers(folder: str, source: HuggingFaceImageModel) -> tuple[torch.Tensor, torch.Tensor]:
    """Ours and transformers' logits for the same images at the model's own size."""
    processor = transformers.AutoImageProcessor.from_pretrained(folder, backend="pil")
    model = transformers.AutoModelForImageClassification.from_pretrained(folder).eval()
    images = (coloured(3, source.spec.size).permute(0, 2, 3, 1) * 255).to(torch.uint8).numpy()
    own_size = dict(do_resize=False, do_center_crop=False, input_data_format="channels_last", return_tensors="pt")
    with torch.no_grad():
        expected = model(processor(list(images), **own_size)["pixel_values"]).logits
        found = source(torch.from_numpy(images).permute(0, 3, 1, 2) / 255.0).logits
    return found, expected


@pytest.fixture(scope="module")
def folder(request, tmp_path_factory):
    return save(request.param, tmp_path_factory.mktemp("model"))


@pytest.mark.parametrize("folder", MODELS, indirect=True)
def test_pixels_to_logits_as_transformers_has_it_before_and_after_other_sizes(folder):
    """Traps: MobileViT reads blue first, EfficientNet normalises twice, Swin changes its windows for good."""
    source = HuggingFaceImageModel(folder)
    found, expected = both_answers(folder, source)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    images = coloured(3, source.spec.size)
    apart = (source(images).logits - source(images.flip(1)).logits).abs().max()
    assert float(apart) > 1e-3 and source.loading_notes == ()  # the weights are large enough to tell channels apart
    for side in (40, 96):
        try:
            assert torch.isfinite(source(torch.rand(1, 3, side, side)).logits).all()
        except SourceError as error:
            assert "pixels, only its own" in str(error)
    torch.testing.assert_close(both_answers(folder, source)[0], found, rtol=0, atol=0)
    assert HuggingFaceImageModel(folder).fingerprint() == source.fingerprint()


@pytest.mark.parametrize("folder", ["swin"], indirect=True)
def test_a_size_that_the_source_does_not_read_is_a_row_of_the_search(folder, easy_images, empty_run):
    """Trap: the search ended in a traceback, and the model answered otherwise from then on."""
    source = HuggingFaceImageModel(folder)
    with pytest.raises(SourceError, match=r"cannot read images of 40 x 40 pixels, only its own 64; use that as input\.size"):
        source(torch.rand(1, 3, 40, 40))
    before = source(torch.full((1, 3, 64, 64), 0.3)).logits
    examples, info = easy_images[0].subset(range(16)), easy_images[1]
    search = Auto(minutes=1, folds=2, prompts=False, ensemble=1)
    found = choose([source], TargetTask(info, examples, examples), search, empty_run)
    failed = [row for row in found.rows if row["status"] == "failed"]
    assert failed and all("cannot read images of" in row["why"] for row in failed)
    assert any(row["status"] == "chosen" for row in found.rows)
    assert torch.equal(source(torch.full((1, 3, 64, 64), 0.3)).logits, before)


def settings_file(folder: str, **change):
    file = Path(folder) / "preprocessor_config.json"
    data = json.loads(file.read_text()) | change
    file.write_text(json.dumps({key: value for key, value in data.items() if value != "left out"}))


OTHERS = {
    "image_mean": [0.1, 0.2, 0.3], "image_std": [0.9] * 3, "do_flip_channel_order": False, "do_normalize": False,
    "rescale_factor": 1 / 127.5,
}  # fmt: skip


@pytest.mark.parametrize("key", OTHERS)
def test_what_the_processor_says_counts_and_is_part_of_the_fingerprint(tmp_path, key):
    folder = save("mobilevit" if "flip" in key else "levit", tmp_path)
    before = HuggingFaceImageModel(folder)
    settings_file(folder, **{key: OTHERS[key]})
    after = HuggingFaceImageModel(folder)
    torch.testing.assert_close(*both_answers(folder, after), rtol=1e-5, atol=1e-5)
    assert after.fingerprint() != before.fingerprint() and after.weights_fingerprint() == before.weights_fingerprint()


@pytest.mark.parametrize("change", [{"layer_norm_eps": 0.5}, {"hidden_act": "relu"}])
def test_numbers_of_the_configuration_are_part_of_the_fingerprint(tmp_path, change):
    folder = save("vit", tmp_path)
    before = HuggingFaceImageModel(folder).fingerprint()
    file = tmp_path / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"transformers_version": "9.9"}))
    assert HuggingFaceImageModel(folder).fingerprint() == before
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    assert HuggingFaceImageModel(folder).fingerprint() != before


def test_normalisation_that_is_missing_is_that_of_the_family(tmp_path):
    folder = save("levit", tmp_path)
    settings_file(folder, image_mean="left out", image_std="left out", do_normalize="left out")
    source = HuggingFaceImageModel(folder)
    assert source.preprocessing.mean == IMAGENET_MEAN and source.loading_notes == ()
    torch.testing.assert_close(*both_answers(folder, source), rtol=1e-5, atol=1e-5)


def test_normalisation_that_is_null_is_that_of_the_family_with_a_note(tmp_path, easy_images):
    folder = save("levit", tmp_path)
    settings_file(folder, image_mean=None, image_std=None)
    source = HuggingFaceImageModel(folder)
    assert source.preprocessing.mean == IMAGENET_MEAN and source.preprocessing.std == IMAGENET_STD
    (note,) = reading_notes(source, NoPrompt(), easy_images[0])
    assert "has no values for its normalisation; those of LevitImageProcessor" in note


def test_an_unknown_processor_without_normalisation_gets_a_note(tmp_path):
    folder = save("vit", tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"image_processor_type": "Unheard", "size": 32}))
    source = HuggingFaceImageModel(folder)
    assert source.preprocessing.mean == IMAGENET_MEAN and "source.mean and source.std" in source.loading_notes[0]


def test_the_users_own_normalisation_goes_before_the_files(tmp_path):
    source = HuggingFaceImageModel(save("vit", tmp_path), mean=[0.1] * 3, std=[0.2] * 3)
    assert source.preprocessing.mean == (0.1,) * 3 and source.preprocessing.std == (0.2,) * 3


def test_timm_keeps_its_preprocessing_in_the_configuration(tmp_path):
    """A checkpoint that timm pushed: no preprocessor_config.json, ``pretrained_cfg`` in config.json."""
    folder = save("vit", tmp_path)
    (tmp_path / "preprocessor_config.json").unlink()
    file = tmp_path / "config.json"
    timm = {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.2, 0.2], "input_size": [3, 32, 32], "crop_pct": 0.9}
    file.write_text(json.dumps(json.loads(file.read_text()) | {"pretrained_cfg": timm}))
    source = HuggingFaceImageModel(folder)
    assert source.preprocessing == Preprocessing(32, 1 / 255, 0.0, (0.5, 0.4, 0.3), (0.2,) * 3)
    assert Preprocessing.of_timm({"input_size": [3, 288, 288]}, 224).settings() == {
        "size": 288, "scale": 1 / 255, "offset": 0.0, "mean": list(IMAGENET_MEAN), "std": list(IMAGENET_STD), "flip": False,
    }  # fmt: skip


def test_grey_models_and_single_numbers(tmp_path):
    settings = {"size": 28, "image_mean": 0.5, "image_std": 0.25}
    preprocessing = Preprocessing.of(settings, 28)
    torch.testing.assert_close(preprocessing(torch.ones(1, 1, 1, 1)), torch.full((1, 1, 1, 1), 2.0))


def test_nothing_is_said_at_all(tmp_path):
    folder = save("vit", tmp_path)
    (tmp_path / "preprocessor_config.json").unlink()
    config = transformers.AutoConfig.from_pretrained(folder)
    assert load_preprocessing(folder, config) is None
    with pytest.raises(SourceError, match=r"give source\.mean and source\.std"):
        HuggingFaceImageModel(folder)


def test_values_written_for_a_copy_are_read_as_the_same():
    from reprogram.sources.preprocessing import Preprocessing

    for found in (
        Preprocessing(32, 1 / 255, 0.0, (0.4, 0.5, 0.6), (0.2, 0.3, 0.4), flip=True),
        Preprocessing(224, 1 / 127.5, -1.0, (0.0,), (1.0,)),
    ):
        assert Preprocessing.of(found.to_processor(), 7) == found
