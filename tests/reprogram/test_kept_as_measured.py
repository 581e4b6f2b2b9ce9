"""What is kept answers exactly as what was measured, for every method that there is and in whatever number format trained.

The rows are found through the registry, so a new input transformation or output mapping is a new row. bfloat16 is forced,
not waited for: torch emulates it on processors without it.
"""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from reprogram.artifact import from_pretrained, save_pretrained
from reprogram.errors import ConfigError
from reprogram.full_precision import full_precision
from reprogram.interfaces import InputTransformation, OutputMapping, TargetInfo
from reprogram.model import ReprogrammedModel
from reprogram.outputs import ridge_taps
from reprogram.registry import find, names
from reprogram.targets.base import ArrayExamples, StringExamples
from reprogram.training import precision
from reprogram.training.loop import Training, fit

FORMATS = ("float32", "bfloat16")
MEMBERS = [
    {"name": "ridge_taps", "config": {}, "views": []},
    {"name": "linear_features", "config": {}, "views": [0]},
    {"name": "gaussian_process", "config": {}, "views": []},
]
OPTIONS = {  # of methods whose defaults are not enough here
    "ensemble": {"members": MEMBERS},
    "blend": {"members": [{"name": name, "config": {}, "views": []} for name in ("ridge_taps", "diffusion")]},
    "gaussian_process": {"trees": 5},
    "many_to_one": {"each": 1},
    "top_k": {"k": 3},
    "prompt_text": {"template": "the film {} [MASK]"},
    "text": {},
    "views": {"sizes": [32, 40], "flip": True},
    "pad": {"size": 32},
    "full": {"size": 32},
    "low_rank": {"size": 32, "rank": 2},
    "coarse": {"size": 32},
    "sample_mask": {"size": 32},
    "none": {"size": 32},
    "line_plot": {"size": 32},
    "gramian": {"size": 32},
    "recurrence": {"size": 32},
    "spectrogram": {"size": 32},
    "mel_spectrogram": {"size": 32},
    "mel_changes": {"size": 32},
    "signal_views": {"size": 32, "features": ["raw", "convolutions"]},
    "reprogram_wave": {"size": 32},
    "token_map": {"tokens": "characters", "atoms": 32},
    "dense_token_map": {"tokens": "characters"},
}
UNREAD = {
    ("label_names", "image"): "the image source here reads no text",
    ("verbaliser", "image"): "an image source has no tokens to fill in",
}
ELSEWHERE = {  # methods of the domain package, and where its own tests keep and find them again
    "smiles": "tests/molecules/test_smiles_input.py",
    "decoder_prompt": "tests/molecules/test_space_searches.py",
}
WORDS = ("good film", "bad", "the good", "a bad film", "film", "abc", "good good", "bad bad the", "xyz", "the film a")


@pytest.fixture(scope="module")
def sources(tiny, text_models):
    """Small frozen models that a kept program can name: it is loaded from its folder again."""
    from reprogram.sources.huggingface import HuggingFaceImageModel
    from reprogram.sources.text import TextSource

    folder = next(a for a in tiny if a.startswith("source.name=")).partition("=")[2]
    image = HuggingFaceImageModel(folder)
    return {"image": image, "text": TextSource(text_models("masked")), "series": image}


def target_of(kind, problem, source, output):
    classes = len(source.labels) if output == "identity" else {"regression": 1}.get(problem, 3)
    shape = {"image": (3, 12, 12), "series": (2, 8000, 60)}.get(kind)
    return TargetInfo("toy", kind, problem, tuple(f"t{i}" for i in range(classes)), shape)


def examples_of(kind, info, seed, count=24):
    rng = np.random.default_rng(seed)
    if info.problem == "classification":
        labels = np.arange(count) % len(info.classes)
    elif info.problem == "multilabel":
        labels = rng.integers(0, 2, (count, 3)).astype(np.float32)
    else:
        labels = rng.normal(size=(count, 1)).astype(np.float32)
    if kind == "text":
        return StringExamples([f"{WORDS[i]} {WORDS[j]}" for i, j in rng.integers(0, len(WORDS), (count, 2))], labels)
    if kind == "series":
        return ArrayExamples(rng.normal(size=(count, 2, 60)).cumsum(2).astype(np.float32), labels)
    images = rng.random((count, 3, 12, 12), dtype=np.float32) * 0.5
    images[:, 0] += (np.arange(count) % 3 / 6)[:, None, None]
    return ArrayExamples(images, labels)


def made(package, base, name):
    return find(package, name, base)(**OPTIONS.get(name, {}))


def check(model, test, folder, seen_as=None):
    """Probabilities before saving, and of the program from its folder, with its source loaded again."""
    measured = model.probabilities(model.logits(test))
    again = from_pretrained(save_pretrained(model, folder), source=seen_as)
    assert again.source is not model.source or seen_as is not None
    assert torch.equal(again.probabilities(again.logits(test)), measured)
    assert torch.equal(torch.from_numpy(again.predict_proba(test)), measured)
    assert again.input.config() == model.input.config() and again.output.config() == model.output.config()


@pytest.mark.parametrize("number_format", FORMATS)
@pytest.mark.parametrize("problem", ["classification", "multilabel", "regression"])
@pytest.mark.parametrize("kind", ["image", "text"])
@pytest.mark.parametrize("name", names("reprogram.outputs"))
def test_every_output_mapping(sources, tmp_path, name, kind, problem, number_format):
    source = sources[kind]
    info = target_of(kind, problem, source, name)
    output = made("reprogram.outputs", OutputMapping, name)
    trained = {"image": "full", "text": "soft_prompt"} if not output.reads_pool else {"image": "none", "text": "text"}
    before = made("reprogram.inputs", InputTransformation, trained[kind])
    try:
        model = ReprogrammedModel(source, before, output, info)
    except ConfigError as reason:  # a mapping that is not made for this problem says so
        expected = problem != "classification" or (name, kind) in UNREAD
        assert expected and "output" in str(reason), f"a new row needs its options above: {reason}"
        return
    if name == "identity" and problem != "classification":
        return  # made for a source that already answers what is asked
    if output.reads_pool:  # inputs without labels, in front of which nothing is trained
        output.observe_pool(model.collect(examples_of(kind, info, seed=2, count=40)))
    training = Training(epochs=2, batch_size=12, precision=number_format)
    history = fit(model, examples_of(kind, info, seed=0), training)
    assert history.precision == number_format and (len(history.epochs) == 2 or output.reads_pool)
    check(model, examples_of(kind, info, seed=1), tmp_path)


@pytest.mark.parametrize("kind", ["image", "text", "series"])
@pytest.mark.parametrize("name", [name for name in names("reprogram.inputs") if name not in ELSEWHERE])
def test_every_input_transformation(sources, tmp_path, name, kind):
    source = sources[kind]
    info = target_of(kind, "classification", source, "linear")
    try:
        model = ReprogrammedModel(
            source,
            made("reprogram.inputs", InputTransformation, name),
            made("reprogram.outputs", OutputMapping, "linear"),
            info,
        )
        model.input(examples_of(kind, info, seed=0).batch(np.arange(2)))
    except (ConfigError, AttributeError, TypeError, ValueError, NotImplementedError):  # made for another kind: see below
        return
    fit(model, examples_of(kind, info, seed=0), Training(epochs=2, batch_size=12, precision="bfloat16"))
    check(model, examples_of(kind, info, seed=1), tmp_path)


def test_every_input_transformation_is_in_the_table(sources):
    """A method that neither reads images nor texts would be skipped twice."""
    for name in sorted(set(names("reprogram.inputs")) - set(ELSEWHERE)):
        built = 0
        for kind, source in sources.items():
            try:
                model = made("reprogram.inputs", InputTransformation, name)
                info = target_of(kind, "classification", source, "linear")
                model.build(source.spec, info)
                model(examples_of(kind, info, seed=0).batch(np.arange(2)))
                built += 1
            except (ConfigError, AttributeError, TypeError, ValueError, NotImplementedError):
                continue
        assert built, f"{name} needs its options in OPTIONS"


@pytest.mark.parametrize("kind", ["image", "text"])
def test_weights_that_are_kept_in_half_precision_are_measured_in_it(sources, tmp_path, kind, monkeypatch):
    monkeypatch.setattr(ridge_taps, "FLOAT32_LIMIT", 10)
    source = sources[kind]
    info = target_of(kind, "classification", source, "ridge_taps")
    before = made("reprogram.inputs", InputTransformation, "none" if kind == "image" else "text")
    after = find("reprogram.outputs", "ridge_taps", OutputMapping)(normalise="l2")
    model = ReprogrammedModel(source, before, after, info)
    fit(model, examples_of(kind, info, seed=0))
    assert model.output.weight.dtype == torch.float16
    check(model, examples_of(kind, info, seed=1), tmp_path)


@pytest.mark.parametrize("hardware", [True, False])
def test_figures_do_not_depend_on_what_the_processor_can_multiply(sources, monkeypatch, hardware):
    """The default, on a CPU with bfloat16 and on one without: the same program, to the last bit."""
    monkeypatch.setattr(precision, "has_fast_bfloat16", lambda device: hardware)
    assert precision.choose("auto", torch.device("cpu")) == torch.float32
    assert precision.choose("auto", torch.device("cuda")) == (torch.bfloat16 if hardware else torch.float32)


def test_a_run_in_bfloat16_trains_in_it_and_measures_in_float32(sources):
    source = sources["image"]
    info = target_of("image", "classification", source, "linear")
    train = examples_of("image", info, seed=0)
    seen = []
    watch = source.register_forward_pre_hook(lambda *_: seen.append(torch.is_autocast_enabled("cpu")))
    programs = {}
    try:
        for number_format in FORMATS:
            full = made("reprogram.inputs", InputTransformation, "full")
            model = ReprogrammedModel(source, full, made("reprogram.outputs", OutputMapping, "linear"), info)
            seen.clear()
            fit(model, train, Training(epochs=1, batch_size=12, precision=number_format))
            programs[number_format] = model.program()
            reads, steps = seen[:1], seen[1:]  # one pass of statistics, then the steps
            assert reads == [False] and steps == [number_format == "bfloat16"] * 2
            seen.clear()
            model.predict(train)
            assert model.precision == torch.float32 and not any(seen)
    finally:
        watch.remove()
    different = programs["float32"]["input.delta"] != programs["bfloat16"]["input.delta"]
    assert bool(different.any()), "bfloat16 was never used: this test shows nothing"


@pytest.mark.parametrize("output", ["ridge_taps", "linear"])
def test_what_surrounds_a_measurement_does_not_reach_it(sources, output):
    source = sources["image"]
    info = target_of("image", "classification", source, output)
    train = examples_of("image", info, seed=0)

    def trained():
        parts = (("reprogram.inputs", InputTransformation, "sample_mask"), ("reprogram.outputs", OutputMapping, output))
        model = ReprogrammedModel(source, *(made(*part) for part in parts), info)
        fit(model, train, Training(epochs=1))
        return model

    model = trained()
    plain = model.predict_proba(train)
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")
        with torch.autocast("cpu", torch.bfloat16):
            assert np.array_equal(model.predict_proba(train), plain)
            with torch.no_grad():
                logits = model.eval()(train.batch(np.arange(len(train))))
            assert logits.dtype == torch.float32
            assert torch.allclose(model.probabilities(logits), torch.from_numpy(plain), atol=1e-6)
            other = trained()
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)
    assert np.array_equal(other.predict_proba(train), plain)
    with model.stepping(torch.bfloat16):  # even a step that stops to measure
        assert np.array_equal(model.predict_proba(train), plain)


def test_answers_of_gradient_steps_are_not_remembered_for_measurements(sources):
    from reprogram.evaluation.features import CachedSource

    source = CachedSource(sources["image"])
    info = target_of("image", "classification", source, "linear")
    images = examples_of("image", info, seed=0).batch(np.arange(4))
    model = ReprogrammedModel(
        source, made("reprogram.inputs", InputTransformation, "none"), made("reprogram.outputs", OutputMapping, "linear"),
        info,
    ).eval()  # fmt: skip
    with torch.no_grad():
        with model.stepping(torch.bfloat16):  # as a search that sees losses only does
            model.outputs(images)
        assert source.bytes == 0
        assert torch.equal(model.outputs(images)[0].logits, sources["image"](model.input(images)[0]).logits)
        assert source.bytes > 0


def test_what_was_set_before_comes_back_after_an_error():
    with torch.autocast("cpu", torch.bfloat16):
        with pytest.raises(ZeroDivisionError), full_precision(torch.device("cpu")):
            assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32
            raise ZeroDivisionError
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16


def test_what_a_method_remembers_beside_its_tensors_is_gone_after_training(sources):
    """The kind of mistake that a table of known methods cannot find: a mapping with a secret."""
    source = sources["image"]
    info = target_of("image", "classification", source, "ridge_taps")
    train = examples_of("image", info, seed=0)
    secretive = type("RidgeTaps", (ridge_taps.RidgeTaps,), {"secret": 1.0, "__module__": ridge_taps.__name__})

    def fitted(self, outputs, labels):
        ridge_taps.RidgeTaps.fit(self, outputs, labels)
        self.secret = 7.0

    secretive.fit = fitted
    secretive.forward = lambda self, outputs: self.secret * ridge_taps.RidgeTaps.forward(self, outputs)
    model = ReprogrammedModel(source, made("reprogram.inputs", InputTransformation, "none"), secretive(), info)
    fit(model, train)
    assert model.output.secret == 1.0


def test_a_value_that_a_kept_program_may_not_have_is_said_before_training(sources):
    source = sources["image"]
    info = target_of("image", "classification", source, "random")
    asked = []
    watch = source.register_forward_pre_hook(lambda *_: asked.append(1))
    mapping = find("reprogram.outputs", "random", OutputMapping)(seed=10**9)
    model = ReprogrammedModel(source, made("reprogram.inputs", InputTransformation, "full"), mapping, info)
    try:
        with pytest.raises(ConfigError, match="random as it would be kept: 'seed' is '1000000000'"):
            fit(model, examples_of("image", info, seed=0))
    finally:
        watch.remove()
    assert not asked


def test_the_estimator_and_the_automatic_choice(sources, tmp_path):
    from reprogram.estimator import ReprogrammedClassifier
    from reprogram.hooks import Run
    from reprogram.interfaces import TargetTask
    from reprogram.result import Result
    from reprogram.selection.choose import Auto, choose

    source = sources["image"]
    info = target_of("image", "classification", source, "ridge_taps")
    train, test = (examples_of("image", info, seed) for seed in (0, 1))
    estimator = ReprogrammedClassifier(source, input="full", output="linear", training=Training(2, 12))
    estimator.fit(train.images, train.labels)
    kept = from_pretrained(save_pretrained(estimator.model_, tmp_path / "estimator"))
    assert np.array_equal(kept.predict_proba(test).astype(float), estimator.predict_proba(test.images))

    run = Run(tmp_path / "run", 0, Result("reprogram", 0))
    settings = Auto(minutes=1.0, folds=3, prompts=False)
    found = choose([source], TargetTask(info, train, test), settings, run)
    check(found.model, test, tmp_path / "auto")


@pytest.mark.parametrize("number_format", FORMATS)
def test_a_run_and_its_evaluation_write_the_same_predictions(typed, tiny, tmp_path, number_format):
    """The failing example of the field: a trained prompt with a gradient head, in whatever format the steps ran."""
    given = [a for a in tiny if not a.startswith(("input", "output"))]
    program = ["input=full", "input.size=32", "output=linear_features", "training.epochs=2"]
    code, stderr = typed(*given, *program, f"training.precision={number_format}", folder="made")
    assert code == 0, stderr
    where = [a for a in given if a.startswith(("target=", "target.root=", "device"))]
    code, stderr = typed("task=evaluate", "program=made/program", *where)
    assert code == 0, stderr
    first, second = ((tmp_path / folder / "predictions.csv").read_text() for folder in ("made", "run"))
    assert first == second
    result = json.loads((tmp_path / "made" / "result.json").read_text())
    assert result["cost"]["training_precision"] == number_format
