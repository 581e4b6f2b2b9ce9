"""The tests on a model that hides a patch, and on one that does not; thresholds, words, and odd sources."""

import math

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from reprogram.backdoor.detection.changes import Group, Mask, Pattern, Warp, smallest_changes
from reprogram.backdoor.detection.data_free import data_free
from reprogram.backdoor.detection.data_limited import data_limited, detection_index
from reprogram.backdoor.detection.examine import DF, DL, EVERY, MARGIN, NC, PATTERN, SOURCES, WARP, Effort, examine
from reprogram.backdoor.detection.inspection import Inspection
from reprogram.backdoor.detection.masks import MaskSearch, lead, smallest_masks
from reprogram.backdoor.detection.maximum_margin import largest_margin, maximum_margin
from reprogram.backdoor.detection.neural_cleanse import recover
from reprogram.backdoor.detection.query_scan import query_scan
from reprogram.backdoor.detection.reference import Reference, anomaly, of_models, shipped
from reprogram.backdoor.detection.verdict import THRESHOLD, TrojanEvidence, suspected, verdict
from reprogram.backdoor.triggers.patch import Patch
from reprogram.errors import ConfigError
from reprogram.interfaces import SourceOutput, TargetInfo, TargetTask
from reprogram.robustness.unfrozen import Unfrozen, answers, learn
from reprogram.sources.black_box import BlackBoxSource
from reprogram.sources.small_cnn import SmallCNN
from reprogram.targets.base import ArrayExamples

TARGET = 6
FAST = Effort(each=3, seeds=4, search=MaskSearch(steps=40), ascent=20)
TINY = {"search": MaskSearch(steps=2), "seeds": 2, "pattern_steps": 2, "warp_steps": 2, "class_steps": 2, "margin_steps": 2}


def digits():
    data = load_digits()
    return torch.tensor(data.images / 16, dtype=torch.float32)[:, None], torch.tensor(data.target)


def task(images, labels, classes=10):
    examples = ArrayExamples(images.numpy(), labels.numpy())
    info = TargetInfo("digits", "image", "classification", tuple(map(str, range(classes))), (1, 8, 8))
    return TargetTask(info, examples, examples)


@pytest.fixture(scope="module")
def trained():
    """A clean and a Trojaned classifier of 8x8 digits, the trigger, and examples that neither has seen."""
    torch.set_num_threads(1)
    images, labels = digits()
    trigger = Patch(target=TARGET, side=2, seed=1)
    found = {}
    for kind in ("clean", "trojan"):
        x, y = images[:1200], labels[:1200]
        if kind == "trojan":
            x, y = trigger.poison(x, y, 0.1)
        found[kind] = learn(Unfrozen(SmallCNN("plain", 8)), x, y, 15, 1e-2).frozen()
    assert trigger.success(answers(lambda x: found["trojan"](x).logits, trigger(images[1200:])), labels[1200:]) > 0.9
    return found, images[1200:], labels[1200:]


@pytest.fixture(scope="module")
def figures(trained):
    models, images, labels = trained
    rows = torch.cat([torch.nonzero(labels == c).squeeze(1)[:3] for c in range(10)])
    return {name: examine(model, (images[rows], labels[rows]), FAST) for name, model in models.items()}


def test_the_target_is_named_and_scored_above_the_clean_model(figures):
    clean, trojan = figures["clean"].scores(), figures["trojan"].scores()
    assert set(trojan) == {NC, PATTERN, WARP, SOURCES, EVERY, MARGIN}  # what is shipped; the others are asked for by name
    for test in (NC, PATTERN):
        assert trojan[test][1] == TARGET and trojan[test][0] > clean[test][0] + 0.15, test
    margins = figures["trojan"].values[MARGIN]
    assert (margins > margins[TARGET]).sum() <= 2


def test_tests_are_chosen_by_name(trained):
    models, images, labels = trained
    effort = Effort(tests=("dl_tnd", "df_tnd"), seeds=4, search=MaskSearch(steps=40), ascent=20)
    found = examine(models["trojan"], (images[:30], labels[:30]), effort)
    assert set(found.values) == {DL, DF} and found.scores()[DL][1] == TARGET
    with pytest.raises(ConfigError, match=r"inspection.tests has neural_clense, which is unknown; did you mean 'neural_cleanse'"):
        Effort(tests=("neural_clense",))


def test_the_recovered_trigger_works_and_is_smaller_than_those_of_other_labels(trained, figures):
    models, images, _ = trained
    logits = lambda x: models["trojan"](x).logits  # noqa: E731
    found = recover(logits, images[:20], torch.tensor([TARGET, 1]), MaskSearch(steps=60))
    assert float(found.sizes[0]) < 0.5 * float(found.sizes[1])
    moved = logits(found.triggers.apply(images[20:80])[0]).argmax(1)
    assert float((moved == TARGET).float().mean()) > 0.7
    assert figures["trojan"].triggers[TARGET].shape == (1, 8, 8)


def test_the_same_seed_gives_the_same_figures(trained):
    models, images, labels = trained
    small = Effort(seeds=2, search=MaskSearch(steps=3), pattern_steps=3, warp_steps=3, class_steps=3, margin_steps=3)
    first, second = (examine(models["clean"], (images[:20], labels[:20]), small) for _ in range(2))
    assert all(np.array_equal(first.values[t], second.values[t]) for t in first.values)


def test_masks_find_the_one_pixel_that_decides():
    """Closed form: one pixel above 1/2 means label 1, so that the smallest mask is that pixel."""

    def logits(x):
        pixel = x[:, 0, 2, 3]
        return torch.stack([torch.zeros_like(pixel), 20 * (pixel - 0.5)], 1)

    def objective(found):
        margin = -lead(found, torch.tensor([[1]]))
        return margin.clamp(min=-1), margin.detach() <= 0

    found = smallest_masks(logits, torch.zeros(5, 1, 6, 6), objective, 1, True, MaskSearch(steps=150, goal=1.0))
    mask = found.masks[0, 0, 0]
    assert bool(found.reached) and int(mask.argmax()) == 2 * 6 + 3
    others = mask.clone()
    others[2, 3] = 0
    assert float(mask[2, 3]) > 0.4 and float(others.max()) < 0.1
    each = smallest_masks(logits, torch.zeros(5, 1, 6, 6), objective, 1, False, MaskSearch(steps=20))
    assert each.masks.shape == (1, 5, 1, 6, 6) and each.sizes.shape == (1, 5)


def test_a_change_is_as_small_as_it_can_be_and_its_aim_is_told():
    """Closed form: label 1 where the mean is above 0.6, label 2 where the left half is far brighter than the right one."""

    def logits(x):
        mean, side = x.mean((1, 2, 3)), x[..., :4].mean((1, 2, 3)) - x[..., 4:].mean((1, 2, 3))
        return 40 * torch.stack([torch.zeros_like(mean), mean - 0.6, side - 0.7], 1)

    images, labels = torch.full((4, 1, 8, 8), 0.4), torch.zeros(4, dtype=torch.long)
    groups = [Group(torch.arange(4), 1), Group(torch.arange(4), 2), Group(torch.arange(4)), Group(torch.arange(0))]
    found = smallest_changes(logits, images, labels, groups, Pattern, 60)
    assert found.sizes[0] == pytest.approx(0.2, abs=0.03) and found.sizes[1] == pytest.approx(0.35, abs=0.05)
    assert found.sizes[2] == pytest.approx(0.2, abs=0.03) and int(found.aims[2]) == 1
    assert float(found.sizes[3]) == Pattern.largest
    flat = smallest_changes(lambda x: logits(x) / 20, images, labels, groups[:1], Pattern, 120)  # the price must fall first
    assert float(flat.sizes) == pytest.approx(0.2, abs=0.05)
    assert float(smallest_changes(logits, images, labels, groups[:1], Mask, 60).sizes) < 0.45
    assert float(smallest_changes(logits, images, labels, groups[:1], Warp, 10).sizes) == Warp.largest  # grey stays grey


def test_a_warp_finds_the_move_that_decides():
    """Closed form: a line in column 3 is label 0, and one a pixel further right label 1."""
    images = torch.zeros(3, 1, 16, 16)
    images[..., 7] = 1

    def logits(x):
        return 20 * torch.stack([x[..., 7].mean((1, 2)), x[..., 8].mean((1, 2)), x[..., 14].mean((1, 2))], 1)

    labels = torch.zeros(3, dtype=torch.long)
    near, far = smallest_changes(
        logits, images, labels, [Group(torch.arange(3), 1), Group(torch.arange(3), 2)], Warp, 40
    ).sizes.tolist()
    assert near < 0.8 and far > 2 * near


def test_the_largest_margin_of_a_linear_model_is_that_of_its_best_image():
    torch.manual_seed(0)
    layer = nn.Linear(16, 2)
    seeds = torch.rand(3, 1, 4, 4)
    logits = lambda x: layer(x.flatten(1))  # noqa: E731
    weight, bias = (t[1] - t[0] for t in (layer.weight.detach(), layer.bias.detach()))
    best = float(weight.clamp(min=0).sum() + bias)
    anywhere = largest_margin(logits, seeds, torch.tensor([1]), 30, None)
    assert float(anywhere) == pytest.approx(best, rel=1e-4)
    inside = maximum_margin(logits, seeds, torch.tensor([1]), 15)
    assert float((seeds.flatten(1) @ weight + bias).mean()) < float(inside) <= best + 1e-5


def test_a_goal_that_cannot_be_reached_counts_as_the_whole_image():
    found = recover(lambda x: torch.stack([x.mean((1, 2, 3)) * 0 + 1, x.mean((1, 2, 3)) * 0], 1) + 0 * x.sum(),
                    torch.rand(3, 1, 6, 6), torch.tensor([0, 1]), MaskSearch(steps=5))  # fmt: skip
    assert float(found.sizes[1]) == 1.0 and float(found.sizes[0]) < 1.0


def test_data_free_on_a_linear_model_spends_its_change_on_the_largest_weights():
    torch.manual_seed(0)
    layer = nn.Linear(16, 3)
    logits = lambda x: layer(x.flatten(1))  # noqa: E731
    seeds = torch.rand(2, 1, 4, 4)
    gains = data_free(logits, seeds, torch.arange(3), steps=60)
    weight = layer.weight - layer.weight.mean(0)
    for label, gain in enumerate(gains.tolist()):
        best = max(knapsack(weight[label], seed.flatten(), 4.0) for seed in seeds)
        assert 0.95 * best <= gain <= best + 1e-4


def knapsack(weight, start, size):
    """The largest rise of weight @ x from ``start`` in the box, for an l1 change of at most ``size``: greedy is exact."""
    rise = 0.0
    for at in weight.abs().argsort(descending=True):
        used = min(size, float(1 - start[at] if weight[at] > 0 else start[at]))
        rise, size = rise + used * float(weight[at].detach().abs()), size - used
    return rise


def test_data_limited_leaves_out_the_label_itself():
    images, labels = digits()
    model = SmallCNN("plain", 8)
    found = data_limited(lambda x: model(x).logits, images[:6], labels[:6], torch.tensor([0, 9]), MaskSearch(steps=2))
    assert found.similarity.shape == (2,) and bool(torch.isfinite(found.similarity).all())
    index = detection_index(np.array([0.5, 0.99, 0.5]), np.array([0.1, 0.01, 0.1]))
    assert index.argmax() == 1 and index[0] == index[2]


def test_trap_no_absolute_threshold():
    """T = 0.75 and T = 100 of the paper do not carry over: only the distance from clean models counts."""
    assert Reference((1.0, 2.0, 3.0)).z(2.0) == 0 and Reference((101.0, 102.0, 103.0)).z(102.0) == 0
    assert Reference((1.0, 2.0, 3.0)).z(3.0) == pytest.approx(1.0)
    assert Reference((1.0, 2.0, 3.0, 500.0)).mad(3.0) < 1.0 < Reference((1.0, 2.0, 3.0)).z(4.0)
    assert anomaly(np.array([1.0, 1.0, 1.0, 5.0]), 0.1).tolist() == [0, 0, 0, 40]


def test_shipped_references_hold_every_test_of_enough_models():
    known = shipped()
    assert set(known) == {NC, PATTERN, WARP, SOURCES, EVERY, MARGIN}
    assert all(len(r.scores) >= 12 and "clean" in r.about for r in known.values())


def test_references_of_the_same_labels_are_compared_label_by_label():
    """Label 2 is easy in every model: only there is a large value usual."""
    values = [np.array([0.0 + d, 1.0 - d, 9.0 + d]) for d in (-0.2, -0.1, 0.0, 0.1, 0.2)]
    known = of_models([{"a": v} for v in values])["a"]
    index, z, _ = known.judge(np.array([3.0, 1.0, 9.0]))
    assert index == 0 and z > 10 and known.scores == tuple(float(v.max()) for v in values)
    usual = known.judge(np.array([0.0, 1.0, 9.0]))[1]
    assert usual == pytest.approx(-1.5 / math.pi**0.5, abs=0.03)  # the largest of three normal values, on average
    assert Reference(known.scores).judge(np.array([3.0, 1.0, 9.0]))[1] == pytest.approx(0)
    other = of_models([{"a": np.array([1.0])}, {"a": np.array([1.0, 2.0])}])["a"]
    assert other.values is None and other.scores == (1.0, 2.0)


def evidence(test, label, z):
    return TrojanEvidence(test, label, 0.0, z, z)


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ([evidence(DL, 1, 9.0), evidence(NC, 1, 4.0)], "Strong evidence of a Trojan targeting class b"),
        ([evidence(DL, 1, 2.1 * THRESHOLD), evidence(NC, 0, 0.0)], "Strong evidence of a Trojan targeting class b"),
        ([evidence(DL, 1, 4.0), evidence(NC, 0, 1.0)], "Some evidence of a Trojan targeting class b"),
        ([evidence(DL, 1, 4.0), evidence(NC, 0, 4.1)], "Some evidence of a Trojan targeting class a"),
        ([evidence(EVERY, 1, 8.0), evidence(NC, 0, 1.0)], "Strong evidence of a Trojan that moves examples of all classes"),
        ([evidence(EVERY, 1, 6.0), evidence(NC, 0, 4.1)], "Some evidence of a Trojan targeting class a"),
        ([evidence(DL, 1, 1.0), evidence(NC, 1, None)], "No evidence found by these tests (DL-TND)"),
        ([], "No test could be calibrated, so the result is undecided"),
    ],
)
def test_verdicts_never_say_clean(found, words):
    text = verdict(found, ("a", "b"))
    assert text.startswith(words) and "clean" not in text
    assert suspected(found)[0] in words.lower() or suspected(found)[0] == "none"


def test_the_hook_writes_rows_and_a_verdict(trained, empty_run):
    models, images, labels = trained
    Inspection(search=MaskSearch(steps=40), each=3, seeds=4, ascent=20).on_source(
        empty_run, models["trojan"], task(images, labels)
    )
    rows = {row["check"]: row for row in empty_run.result.data["robustness"]["rows"]}
    assert {"trojan_Neural Cleanse", "trojan_added pattern", "trojan_maximum margin", "trojan_inspection"} <= set(rows)
    assert all(row["kind"] == "inspection" for row in rows.values())
    assert "evidence of a Trojan targeting class label 6" in empty_run.result.data["inspection"]["verdict"]


def test_an_interrupted_inspection_goes_on(trained, tmp_path, monkeypatch):
    models, images, labels = trained
    small = Effort(seeds=2, search=MaskSearch(steps=2), pattern_steps=2, warp_steps=2, class_steps=2, at_once=40)
    first = examine(models["clean"], (images[:20], labels[:20]), small, journal=tmp_path / "i.jsonl")
    for name in ("maximum_margin", "recover", "smallest_changes"):  # would fail if they were called
        monkeypatch.setattr(f"reprogram.backdoor.detection.examine.{name}", None)
    again = examine(models["clean"], (images[:20], labels[:20]), small, journal=tmp_path / "i.jsonl")
    assert all(np.allclose(first.values[t], again.values[t]) for t in first.values)
    assert torch.equal(first.triggers[3], again.triggers[3])


def test_picked_labels_are_not_judged_by_references_that_picked_none(empty_run):
    """A model of 1,000 labels, all of them clean, was called Trojaned: its most suspicious ten had been picked."""
    source = SmallCNN("plain", 8, labels=40)
    found = Inspection(search=MaskSearch(steps=2), seeds=2, ascent=2, suspects=4).inspect(source, None, empty_run)
    assert found.evidence and all(e.z is None for e in found.evidence)
    assert found.verdict.startswith("No test could be calibrated") and "the most suspicious class" in found.verdict


def test_many_labels_are_screened_first():
    source = SmallCNN("plain", 8, labels=40)
    found = examine(source, None, Effort(seeds=2, search=MaskSearch(steps=2), ascent=2, most=20, suspects=4))
    assert found.screened.shape == (40,) and len(found.labels) == 8 and len(set(found.labels.tolist())) == 8
    assert set(np.argsort(-found.screened)[:4]) <= set(found.labels.tolist()) and PATTERN not in found.values


@pytest.mark.parametrize("count", [2, 3])
def test_two_or_three_classes_are_not_compared_with_one_another(count, empty_run):
    images, labels = digits()
    few = labels < count
    source = SmallCNN("plain", 8, labels=count)
    hook = Inspection(**TINY)
    found = hook.inspect(source, task(images[few], labels[few], count), empty_run)
    assert not found.evidence and f"{count} labels are too few to be compared with one another" in found.verdict


def test_a_clean_set_without_one_class_is_said(trained, empty_run):
    models, images, labels = trained
    kept = labels != 3
    hook = Inspection(**TINY)
    found = hook.inspect(models["clean"], task(images[kept], labels[kept]), empty_run)
    assert "the clean set has no example of 3" in found.verdict and len(found.evidence) == 6


def test_colour_for_a_grey_source_and_another_target_than_the_sources_labels(trained, empty_run):
    models, images, labels = trained
    hook = Inspection(**TINY)
    coloured = task(images.expand(-1, 3, -1, -1), labels)
    assert len(hook.inspect(models["clean"], coloured, empty_run).evidence) == 6
    other = hook.inspect(models["clean"], task(images[labels < 5], labels[labels < 5], 5), empty_run)
    assert {e.test: e.z is None for e in other.evidence} == {MARGIN: False, NC: True}  # masks on noise are not judged
    assert "most tests need a few clean examples" in other.verdict


def test_a_source_that_can_only_be_asked_gets_what_queries_allow(tiny_source, trained, empty_run):
    _, images, labels = trained
    source = BlackBoxSource(tiny_source())
    found = Inspection().inspect(source, task(images, labels), empty_run)
    assert "is a black-box model: all tests that need gradients are left out" in found.verdict
    assert found.rows[0].check == "trojan_query_scan" and found.rows[0].flags and not found.evidence
    grey = BlackBoxSource(SmallCNN("plain", 8))
    assert grey.spec.channels == 1 and grey(images[:2]).logits.shape == (2, 10)
    assert Inspection().inspect(grey, task(images, labels), empty_run).rows[0].check == "trojan_query_scan"


def test_the_query_scan_sees_a_patch_that_it_happens_to_hit():
    def answers(x):
        return (x[:, 0, 0, 0] == 1).long() * 4  # a white corner means label 4

    assert query_scan(answers, torch.full((10, 1, 8, 8), 0.5), patches=16) == (1.0, 4)
    assert query_scan(lambda x: torch.zeros(len(x), dtype=torch.long), torch.rand(10, 1, 8, 8))[0] == 0.0


def test_references_can_be_trained_on_the_spot(trained, empty_run):
    models, images, labels = trained
    hook = Inspection(train=5, **TINY)
    found = hook.inspect(models["clean"], task(images[:100], labels[:100]), empty_run)
    assert all(e.z is not None and e.about == "clean models named by the user" for e in found.evidence)
    few = Inspection(references=[models["clean"]], **TINY)
    assert "1 reference models are too few" in few.inspect(models["clean"], task(images, labels), empty_run).verdict


def test_unknown_options_are_said():
    with pytest.raises(ConfigError, match=r"There is no option inspection.sedes; did you mean 'seeds'"):
        Inspection(sedes=3)
    with pytest.raises(ConfigError, match=r"inspection.depth=quik"):
        Inspection(depth="quik")


def test_an_encoder_without_labels_cannot_be_inspected(tiny_source, empty_run):
    class Encoder(type(tiny_source())):
        def answer(self, source_input, taps=()):
            return SourceOutput(source_input.new_zeros(len(source_input), 0), None)

    source = Encoder()
    source.spec = source.spec.__class__("image", 16, (), answers="none")
    assert "is no image classifier" in Inspection().inspect(source, None, empty_run).verdict


def test_the_index_is_larger_for_small_masks_and_for_labels_that_are_read_alike():
    """By hand: log of the median size over a label's size, and a quarter of -log(1.01 - similarity)."""
    found = detection_index(np.array([0.0, 0.0, 0.91]), np.array([0.5, 0.005, 0.5]) - 1e-4)
    assert found == pytest.approx([-0.25 * np.log(1.01), np.log(100) - 0.25 * np.log(1.01), -0.25 * np.log(0.1)])
