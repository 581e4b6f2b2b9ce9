import json
from dataclasses import dataclass, replace

import pytest
import torch
from torch import nn

from reprogram import robustness
from reprogram.configuration import load
from reprogram.errors import ConfigError, DataError, Interrupted
from reprogram.inputs.none import NoPrompt
from reprogram.interfaces import OutputMapping, TargetInfo, TargetTask
from reprogram.model import ReprogrammedModel
from reprogram.outputs.linear_features import LinearFeatures
from reprogram.robustness import flags
from reprogram.robustness.checks.attack import AttackCheck
from reprogram.robustness.checks.smallest_perturbation import SmallestPerturbation
from reprogram.robustness.diagnose import diagnose, foresight
from reprogram.targets.base import ArrayExamples

SMALL = {
    "noise": {"draws": 2}, "pgd": {"steps": 10}, "bpda_pgd": {"steps": 10}, "apgd_ce": {"steps": 8}, "square": {"steps": 30},
}  # fmt: skip


def attacks(**options):
    """Options of attacks as the configuration has them."""
    return {name: {"attack": given} for name, given in options.items()}


def hook(depth="quick", **changes):
    return load("robustness", depth, **changes)


FAST = robustness.settings("quick", examples=24, few=24, threats={"linf": 0.12}, checks=attacks(**SMALL))


@dataclass(eq=False)
class Head(OutputMapping):
    def build(self, spec, target):
        torch.manual_seed(0)
        self.linear = nn.Linear(len(spec.labels), len(target.classes))

    def forward(self, outputs):
        return self.linear(outputs[0].logits)


def codes(row):
    return {flag["code"] for flag in row["flags"]}


def by_check(result):
    return {row["check"]: row for row in result.data["robustness"]["rows"]}


def test_quick_evaluation_of_any_torch_classifier(digit_cnn):
    model, images, labels = digit_cnn
    model.train()
    result = robustness.evaluate(model, (images, labels), depth="quick")
    assert model.training, "the caller's mode comes back"
    found = by_check(result)
    assert {"clean", "noise", "fgsm", "pgd", "apgd_ce", "square", "smallest_perturbation", "worst_case"} <= found.keys()
    assert found["worst_case"]["value"] <= min(found[k]["value"] for k in ("fgsm", "pgd", "apgd_ce", "square"))
    assert found["clean"]["n"] == 16 and found["clean"]["low"] <= found["clean"]["value"] <= found["clean"]["high"]
    assert result.data["robustness"]["flags"] == []
    again = robustness.evaluate(model, (images, labels), depth="quick")
    assert again.data["robustness"]["rows"] == result.data["robustness"]["rows"]
    model.eval()


def test_dear_attacks_are_spent_on_what_the_cheaper_ones_left(digit_cnn):
    """So the ensemble takes the worst of each example and nothing is spent on broken ones."""
    model, images, labels = digit_cnn
    found = by_check(robustness.evaluate(model, (images, labels), settings=FAST))
    left = round(24 * min(found[k]["value"] for k in ("noise", "fgsm", "pgd")))
    assert found["apgd_ce"]["attacked"] <= left < 24 and found["square"]["attacked"] <= found["apgd_ce"]["attacked"]
    assert found["worst_case"]["value"] == found["square"]["value"] <= found["apgd_ce"]["value"]
    assert "on examples still classified correctly" in found["apgd_ce"]["threat"]


def test_depth_none_adds_nothing_and_unknown_depths_are_named(digit_cnn):
    model, images, labels = digit_cnn
    assert "robustness" not in robustness.evaluate(model, (images, labels), depth="none").data
    with pytest.raises(ConfigError, match="did you mean 'quick'"):
        robustness.evaluate(model, (images, labels), depth="quik")


def test_rounded_input_is_flagged_and_bpda_breaks_it(digit_cnn, rounded):
    model, images, labels = digit_cnn
    found = by_check(robustness.evaluate(rounded(model), (images, labels), settings=FAST))
    assert {"zero_gradients", "missed_by_gradients", "black_box_beats_white_box"} <= codes(found["worst_case"])
    assert found["pgd"]["value"] > found["bpda_pgd"]["value"] + 0.3
    assert "proves_nothing" in codes(found["pgd"])
    assert found["worst_case"]["value"] <= found["bpda_pgd"]["value"]


def test_jumps_that_no_gradient_foresees_are_flagged_and_searched_at_random(digit_cnn):
    """k-winners-take-all (Xiao et al. 2019): within the winners the gradient is smooth, and who wins it does not know."""
    model, images, labels = digit_cnn
    generator = torch.Generator().manual_seed(0)
    before = torch.randn(images[0].numel(), 400, generator=generator)
    after = 0.3 * torch.randn(400, 10, generator=generator)

    class Winners(nn.Module):
        def forward(self, x):
            hidden = x.flatten(1) @ before
            return model(x) + torch.where(hidden >= hidden.topk(20).values[:, -1:], hidden, 0) @ after

    jumping = diagnose(Winners(), images, labels)
    assert jumping.jumps and "unforeseen_jumps" in {flag.code for flag in jumping.flags}
    plain = diagnose(model, images, labels)
    assert not plain.jumps and foresight(plain) > 0.95 > 0.5 > foresight(jumping)
    found = by_check(robustness.evaluate(Winners(), (images, labels), settings=FAST))
    assert "proves_nothing" in codes(found["pgd"])
    assert found["square"]["queries"] > 30 or found["square"]["value"] == 0


class Softmax(nn.Module):
    def __init__(self, model, scale=1.0):
        super().__init__()
        self.model, self.scale = model, scale

    def forward(self, x):
        return (self.scale * self.model(x)).softmax(1)


def test_probabilities_are_flagged_and_still_attacked(digit_cnn):
    model, images, labels = digit_cnn
    found = by_check(robustness.evaluate(Softmax(model), (images, labels), settings=FAST))
    plain = by_check(robustness.evaluate(model, (images, labels), settings=FAST))
    assert "probabilities" in codes(found["worst_case"])
    assert abs(found["pgd"]["value"] - plain["pgd"]["value"]) <= 0.05


def test_random_models_are_flagged(digit_cnn):
    model, images, labels = digit_cnn

    class Dropping(nn.Module):
        def forward(self, x):
            return model(x + 0.01 * torch.randn_like(x))

    torch.manual_seed(0)
    found = by_check(robustness.evaluate(Dropping(), (images, labels), settings=FAST))
    assert "random" in codes(found["clean"])


def test_constant_predictions_are_flagged():
    class Constant(nn.Module):
        def forward(self, x):
            return torch.stack([x.sum((1, 2, 3)) * 0 + 1, x.sum((1, 2, 3)) * 0], 1)

    images, labels = torch.rand(10, 1, 4, 4), torch.arange(10) % 2
    found = by_check(robustness.evaluate(Constant(), (images, labels), settings=FAST))
    assert {"constant", "zero_gradients"} <= codes(found["worst_case"])
    assert found["worst_case"]["value"] == 0.5


def test_nan_answers_count_as_wrong_and_are_named(digit_cnn):
    model, images, labels = digit_cnn

    class Broken(nn.Module):
        def forward(self, x):
            logits = model(x)
            return torch.where((x[:, 0, 3, 3] > 0.9)[:, None], logits * float("nan"), logits)

    lost = int((images[:, 0, 3, 3] > 0.9).sum())
    settings = replace(FAST, examples=len(images), few=len(images))
    found = by_check(robustness.evaluate(Broken(), (images, labels), settings=settings))
    assert any(f"not finite on {lost} of {len(images)}" in flag["text"] for flag in found["clean"]["flags"])


def test_one_test_example_and_batches_of_a_loader(digit_cnn):
    model, images, labels = digit_cnn
    found = by_check(robustness.evaluate(model, (images[:1], labels[:1]), settings=FAST))
    assert found["worst_case"]["n"] == 1 and found["worst_case"]["low"] < found["worst_case"]["high"]
    batches = [(images[:10], labels[:10]), (images[10:20], labels[10:20])]
    assert by_check(robustness.evaluate(model, batches, settings=FAST))["clean"]["n"] == 20


@pytest.mark.parametrize(
    ("images", "labels", "said"),
    [
        (torch.rand(4, 1, 8, 8) * 255, torch.zeros(4).long(), r"\[0, 1\]"),
        (torch.rand(4, 64), torch.zeros(4).long(), "must be"),
        (torch.full((4, 1, 8, 8), float("nan")), torch.zeros(4).long(), "NaN"),
        (torch.rand(4, 1, 8, 8), torch.full((4,), 10), "10 classes"),
        (torch.rand(4, 1, 8, 8), torch.zeros(4), "class index"),
        (torch.rand(0, 1, 8, 8), torch.zeros(0).long(), "no examples"),
    ],
)
def test_bad_data_ends_in_one_sentence(images, labels, said, digit_cnn):
    with pytest.raises(DataError, match=said):
        robustness.evaluate(digit_cnn[0], (images, labels))


def test_a_model_with_one_output_is_refused():
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 1))
    with pytest.raises(ConfigError, match="at least two classes"):
        robustness.evaluate(model, (torch.rand(2, 1, 8, 8), torch.zeros(2).long()))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"threats": {"linf": 8}}, "did you mean 8/255"),
        ({"threats": {"l7": 0.1}}, "l7"),
        ({"threats": {"linf": None, "l2": None, "l1": None}}, "names no norm"),
        ({"examples": 0}, "examples=0 must be at least 1"),
        ({"checks": {"square": {"attack": {"steps": -1}}}}, "steps=-1"),
        ({"checks": {"pgd": {"attack": {"loss": "cd"}}}}, "loss='cd'"),
        ({"checks": {"pgd": {"examples": "most"}}}, "examples=most"),
        ({"checks": {"pdg": {"attack": {"steps": 1}}}}, "pdg"),
        ({"checks": {"smoothing": {"sigma": 0.0}}}, "sigma"),
        ({"checks": {"corruptions": {"severities": [6]}}}, "6 must be between 1 and 5"),
        ({"checks": {"smallest_perturbation": {"factors": [0.0]}}}, "factors"),
        ({"also": ["mi_fgsmm"]}, "did you mean 'mi_fgsm'"),
    ],
)
def test_impossible_settings_are_refused_before_anything_runs(options, said):
    with pytest.raises(ConfigError, match=said):
        hook("full", **options)


def test_sizes_beyond_the_input_range_are_refused_before_training(digit_cnn, empty_run, easy_images):
    """linf is refused without an image; how far two images can be apart in l2 depends on their size."""
    model, images, labels = digit_cnn
    with pytest.raises(ConfigError, match="outside the input range"):
        robustness.evaluate(model, (images, labels), settings=robustness.settings("quick", threats={"l2": 9.0}))
    examples, info = easy_images
    target = TargetTask(info, examples, examples)
    with pytest.raises(ConfigError, match="3x12x12"):
        hook(threats={"l2": 30.0}).on_source(empty_run, None, target)
    hook(threats={"l2": 20.0}).on_source(empty_run, None, target)


class Odd(nn.Module):
    """A classifier with one thing wrong."""

    def __init__(self, model, kind):
        super().__init__()
        self.model, self.kind = model, kind

    def forward(self, x):
        logits = self.model(x)
        if self.kind == "nan":
            return torch.where((x[:, 0, 3, 3] > 0.5)[:, None], logits * float("nan"), logits)
        if self.kind == "random":
            return self.model(x + 0.02 * torch.randn_like(x))
        if self.kind == "constant":
            return logits * 0 + torch.arange(10.0)
        return logits.softmax(1) if self.kind == "probabilities" else logits


TINY = attacks(
    noise={"draws": 1}, pgd={"steps": 4}, bpda_pgd={"steps": 4}, apgd_ce={"steps": 4}, apgd_dlr={"steps": 3},
    apgd_targeted={"steps": 3}, square={"steps": 8}, hopskipjump={"steps": 1}, universal={"epochs": 1},
) | {
    "clever": {"examples": 1}, "smoothing": {"examples": 2, "samples": 50}, "linear_bounds": {"examples": 1},
    "semantic": {"points": 3, "certified": 1}, "corruptions": {"severities": [1, 5]},
    "smallest_perturbation": {"factors": [2.0], "steps": 5}, "inheritance": {"steps": 4},
}  # fmt: skip
EVERYTHING = robustness.settings("full", examples=5, few=4, threats={"linf": 0.1, "l2": 0.5, "l1": 2.0}, checks=TINY)


@pytest.mark.parametrize("kind", ["nan", "random", "constant", "probabilities", "one example", "three classes"])
def test_every_check_of_the_full_depth_survives_odd_models(kind, digit_cnns):
    model, images, labels = digit_cnns[3 if kind == "three classes" else 10]
    count = 1 if kind == "one example" else 8
    torch.manual_seed(0)
    # certificates take most of the time, and a plain model in small numbers is nothing new to them
    certified = kind not in ("one example", "three classes")
    settings = EVERYTHING if certified else replace(EVERYTHING, checks=EVERYTHING.checks | {"linear_bounds": None})
    result = robustness.evaluate(Odd(model, kind), (images[:count], labels[:count]), settings=settings)
    table = result.data["robustness"]["rows"]
    wanted = {"worst_case", "apgd_targeted", "smoothing", "rotation", "corruptions"}
    assert wanted | ({"linear_bounds"} if certified else set()) <= {row["check"] for row in table}
    for row in table:
        assert row["value"] is None or row["value"] >= 0
        assert row["low"] is None or row["low"] <= row["value"] <= row["high"]
    json.dumps(table, allow_nan=False)
    told = " ".join(result.data["robustness"]["flags"])
    said = {"nan": "not finite", "random": "random", "constant": "constant", "probabilities": "probabilities"}
    assert said.get(kind, "") in told
    assert kind == "random" or "exceeds an attack" not in told


def test_a_model_that_answers_at_random_is_known_again_by_its_weights(digit_cnn, tmp_path, monkeypatch):
    model, images, labels = digit_cnn
    journal, calls = tmp_path / "robustness.jsonl", []
    odd = Odd(model, "random")
    robustness.evaluate(odd, (images, labels), settings=FAST, journal=journal)
    attack = AttackCheck.run
    monkeypatch.setattr(AttackCheck, "run", lambda *a, **k: calls.append(a) or attack(*a, **k))
    robustness.evaluate(odd, (images, labels), settings=FAST, journal=journal, resume=True)
    assert not calls


def test_query_only_models_get_query_only_attacks(digit_cnn):
    model, images, labels = digit_cnn

    def asked(x):
        return torch.from_numpy(model(torch.from_numpy(x.detach().numpy())).numpy())

    result = robustness.evaluate(asked, (images, labels), settings=FAST)
    found = by_check(result)
    assert "no_gradient" in {flag["code"] for flag in found["worst_case"]["flags"]}
    assert "pgd" not in found and {"noise", "square", "worst_case", "smallest_perturbation"} <= found.keys()
    assert "only attacks that query it" in result.data["robustness"]["notes"][0]


def test_an_interrupted_evaluation_goes_on_where_it_stopped(digit_cnn, tmp_path, monkeypatch):
    model, images, labels = digit_cnn
    journal = tmp_path / "robustness.jsonl"
    whole = robustness.evaluate(model, (images, labels), settings=FAST)
    curve, calls = SmallestPerturbation.run, []

    def stop(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(SmallestPerturbation, "run", stop)
    with pytest.raises(Interrupted, match="resume=true"):
        robustness.evaluate(model, (images, labels), settings=FAST, journal=journal)
    monkeypatch.setattr(SmallestPerturbation, "run", curve)
    done = [json.loads(line)["check"] for line in journal.read_text().splitlines()]
    assert "square linf" in done and "smallest_perturbation linf" not in done
    attack = AttackCheck.run
    monkeypatch.setattr(AttackCheck, "run", lambda *a, **k: calls.append(a) or attack(*a, **k))
    resumed = robustness.evaluate(model, (images, labels), settings=FAST, journal=journal, resume=True)
    assert not calls, "finished attacks are not run again"
    assert resumed.data["robustness"]["rows"] == whole.data["robustness"]["rows"]
    options = attacks(**SMALL, fgsm={}) | attacks(pgd={"steps": 4})
    other = robustness.settings("quick", examples=24, few=24, threats={"linf": 0.12}, checks=options)
    robustness.evaluate(model, (images, labels), settings=other, journal=journal, resume=True)
    assert calls, "what another setting found is not used"


def test_flags_of_comparisons():
    none, all_, half = torch.zeros(100).bool(), torch.ones(100).bool(), torch.arange(100) < 50
    assert "masked" in str(flags.black_box_beats_white_box({"pgd": none}, {"square": half}))
    assert flags.black_box_beats_white_box({"pgd": half, "apgd": ~half}, {"square": all_}) is None
    assert flags.single_step_beats_iterative(all_, half) and not flags.single_step_beats_iterative(half, all_)
    assert flags.more_steps_help(none, half) and not flags.more_steps_help(half, half)
    assert not flags.more_steps_help(half, all_), "nothing is left that more steps could break"
    assert flags.not_monotone({0.1: all_, 0.2: half}) and not flags.not_monotone({0.1: half, 0.2: all_})
    assert flags.not_reaching_chance({0.5: half}, 10) and not flags.not_reaching_chance({0.1: half, 0.5: all_}, 10)


def test_saturated_cross_entropy_is_not_taken_for_masking(digit_cnn):
    """Very confident logits have a cross-entropy of exactly 0 in float32; the model hides nothing."""
    model, images, labels = digit_cnn

    class Confident(nn.Module):
        def forward(self, x):
            return 1000 * model(x)

    found = by_check(robustness.evaluate(Confident(), (images, labels), settings=FAST))
    assert "zero_gradients" not in codes(found["clean"])


def test_the_hook_attacks_a_reprogrammed_model(tiny_source, easy_images, empty_run):
    examples, info = easy_images
    model = ReprogrammedModel(tiny_source(), NoPrompt(), Head(), info)
    small = attacks(pgd={"steps": 4}, apgd_ce={"steps": 4}, square={"steps": 10})
    looking = hook(examples=12, checks=small, also=["universal", "transfer"])
    looking.on_fit_end(empty_run, model, TargetTask(info, examples, examples))
    found = by_check(empty_run.result)
    assert {"pgd", "transfer", "universal", "worst_case"} <= found.keys()
    assert found["pgd"]["n"] == 12
    assert (empty_run.dir / "robustness.jsonl").exists()
    assert all(p.requires_grad for p in model.output.parameters()), "the program can be trained on"


def test_full_depth_runs_every_check_on_a_reprogrammed_model(tiny_source, easy_images, empty_run):
    examples, info = easy_images
    model = ReprogrammedModel(tiny_source(), NoPrompt(), Head(), info)
    small = {"examples": 6, "few": 4, "checks": TINY | {"corruptions": {"severities": [3]}}}
    with torch.no_grad():
        answered = ArrayExamples(examples.images, model(examples.batch(range(40))).argmax(1).numpy())
    hook("full", **small).on_fit_end(empty_run, model, TargetTask(info, examples, answered))
    table = empty_run.result.data["robustness"]["rows"]
    found = {(row["check"], row["kind"]) for row in table}
    assert {
        ("apgd_targeted", "attack"), ("hopskipjump", "attack"), ("clever", "estimate"), ("smoothing", "certificate"),
        ("smoothing_first_order", "certificate"), ("linear_bounds", "certificate"), ("hue", "attack"),
        ("hue", "certificate"), ("translation", "certificate"), ("corruptions", "estimate"), ("inheritance", "estimate"),
        ("worst_case", "attack"), ("transfer", "attack"), ("universal", "attack"),
    } <= found  # fmt: skip
    assert not any("contradicted" in codes(row) for row in table), "the sandwich"
    bounded = [row for row in table if row["check"] == "linear_bounds"]
    assert all(row["n"] == 1 for row in bounded), "the program is recorded together with its source"


def test_the_hook_names_unknown_options_and_says_why_it_has_nothing_to_attack(easy_images, empty_run, tiny_source):
    with pytest.raises(ConfigError, match="did you mean 'examples'"):
        hook("quick", exampels=3)
    with pytest.raises(ConfigError, match="fulll"):
        hook("fulll")
    examples, _ = easy_images
    regression = TargetInfo("r", "image", "regression", ("y",), (3, 12, 12))
    hook().on_fit_end(empty_run, None, TargetTask(regression, examples, examples))
    assert "regression" in empty_run.result.data["robustness"]["notes"][0]


def test_a_strengthened_program_is_shown_beside_the_same_one_trained_plainly(tiny_source, easy_images, empty_run):
    examples, info = easy_images
    training = {
        "_target_": "reprogram.training.loop.Training", "epochs": 2, "adversarial": {
            "_target_": "reprogram.training.adversarial.PGDTraining", "steps": 2},
    }  # fmt: skip
    empty_run.config = {"task": {"name": "reprogram"}, "training": training}
    model = ReprogrammedModel(tiny_source(), NoPrompt(), LinearFeatures(), info).eval()
    small = {"pgd": {"attack": {"steps": 3}}, "square": None}
    looking = hook(examples=8, few=8, threats={"linf": 0.05, "l2": None, "l1": None}, checks=small)
    looking.on_fit_end(empty_run, model, TargetTask(info, examples, examples))
    found = by_check(empty_run.result)
    before, after = found["before_strengthening"], found["after_strengthening"]
    assert before["n"] == after["n"] == 8 and before["threat"] == after["threat"]
    assert after["gained"] == pytest.approx(after["value"] - before["value"])
    assert before["clean"] != after["clean"], "the other program was trained, this one never was"
    plain = dict(training, adversarial={})
    empty_run.config = {"task": {"name": "reprogram"}, "training": plain}
    empty_run.result.data.pop("robustness")
    looking.on_fit_end(empty_run, model, TargetTask(info, examples, examples))
    assert "before_strengthening" not in by_check(empty_run.result)
