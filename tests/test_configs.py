"""Every file in conf/ composes, has only options that its class takes, says what it is, and is instantiated."""

import json

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import get_object, instantiate
from omegaconf import DictConfig, OmegaConf

from reprogram.configuration import check, config_folder, groups, options
from reprogram.configuration import option as option_file

# What a user must give (???), for each option that asks for something.
GIVEN = {
    "source/huggingface": ["source.name={vit}"],
    "source/clip": ["source.name={clip}", "source.labels=[cat,dog]"],
    "target/image_folder": ["target.root={images}", "target.shots=2"],
    "target/huggingface": ["target.name={dataset}", "target.shots=2"],
}
ONLY_CHECKED = {  # made by the tests of their own packages: they ask a server, call a user's function, or take long
    *("source/remote", "source/callable", "source/text", "space/annalog", "target/b3db", "start/zinc"),
}
FILES = [f"{group}/{option}" for group in groups() for option in options(group)]


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """Tiny models and data for the options of ``GIVEN``."""
    import datasets
    import transformers
    from PIL import Image

    root = tmp_path_factory.mktemp("given")
    torch.manual_seed(0)
    small = dict(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32)
    transformers.ViTForImageClassification(
        transformers.ViTConfig(**small, patch_size=8, image_size=32, num_labels=5)
    ).save_pretrained(root / "vit")
    letters = [letter + end for letter in "abcdefghijklmnopqrstuvwxyz." for end in ("", "</w>")]
    words = ["<|startoftext|>", "<|endoftext|>", *letters]
    vocabulary = {word: i for i, word in enumerate(words)}
    clip = transformers.CLIPConfig(
        text_config=dict(**small, vocab_size=len(words), max_position_embeddings=40, bos_token_id=0, eos_token_id=1),
        vision_config=dict(**small, image_size=32, patch_size=8),
        projection_dim=12,
    )
    transformers.CLIPModel(clip).save_pretrained(root / "clip")
    transformers.CLIPTokenizer(vocab=vocabulary, merges=[]).save_pretrained(root / "clip")
    for name in ("vit", "clip"):
        settings = {"size": {"height": 32, "width": 32}, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
        (root / name / "preprocessor_config.json").write_text(json.dumps(settings))
    for name in "ab":
        (root / "images" / name).mkdir(parents=True)
        for i in range(4):
            Image.new("RGB", (8, 8), (i, ord(name), 200)).save(root / "images" / name / f"{i}.png")
    features = datasets.Features(text=datasets.Value("string"), label=datasets.ClassLabel(names=["a", "b"]))
    rows = {"text": [f"text {i}" for i in range(10)], "label": [0, 1] * 5}
    datasets.Dataset.from_dict(rows, features).save_to_disk(root / "dataset")
    return {name: root / name for name in ("vit", "clip", "images", "dataset")}


def composed(overrides, tmp_path):
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        return compose("config", overrides=[f"run_dir={tmp_path}", *overrides])


def test_every_choice_says_in_one_line_what_it_is():
    silent = [file for file in FILES if not options(file.split("/")[0])[file.split("/")[1]]]
    assert not silent


def test_the_root_composes_and_is_checked(tmp_path):
    check(composed([], tmp_path))


@pytest.mark.parametrize("file", FILES)
def test_every_file_composes_and_is_instantiated(file, given, tmp_path):
    group, option = file.split("/")
    if f"- {group}:" not in (config_folder() / "config.yaml").read_text():  # options of another group's, as checks are
        assert instantiate(option_file(group, option)) is not None
        return
    asked = [text.format(**given) for text in GIVEN.get(file, [])]
    config = composed([f"{group}={option}", *asked], tmp_path)
    missing = OmegaConf.missing_keys(config)
    if not missing:
        check(config)
    if group in ("experiment", "hparams_search"):  # whole recipes, not one part
        return
    node = config[group]
    if not isinstance(node, DictConfig) or "_target_" not in node:
        assert option in ("none", "null", "auto") or not OmegaConf.is_missing(config, group)
        return
    made_of = get_object(node["_target_"])
    assert callable(made_of)
    if group != "task" and not missing and file not in ONLY_CHECKED:
        assert instantiate(node) is not None
