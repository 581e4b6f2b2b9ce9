import torch

from reprogram.robustness.checks.base import Scope
from reprogram.robustness.checks.inheritance import BareSource, Inheritance, ProbedSource
from reprogram.robustness.diagnose import diagnose


def test_the_probe_is_scikit_learns_and_missing_classes_are_never_answered(tiny_source, easy_images):
    examples, _ = easy_images
    images, labels = examples.batch(range(40)), torch.as_tensor(examples.labels)
    probe = ProbedSource(BareSource(tiny_source()), images, labels, classes=4)
    answers = probe(images).argmax(1)
    assert float((answers == labels).float().mean()) > 0.9
    assert set(answers.tolist()) <= {0, 1}
    x = images.clone().requires_grad_(True)
    assert torch.autograd.grad(probe(x)[:, 0].sum(), x)[0].abs().sum() > 0


def test_inheritance_compares_with_the_source_and_the_probe(tiny_source, easy_images):
    examples, _ = easy_images
    images, labels = examples.batch(range(40)), torch.as_tensor(examples.labels)
    bare = BareSource(tiny_source())
    model = ProbedSource(bare, images, labels, classes=2)
    found = diagnose(model, images, labels, source=bare, train=(images, labels))
    outcome = Inheritance(steps=5).run(found, Scope("inheritance", 20, {"linf": 0.01}))
    rows = {row.check: row for row in outcome.rows}
    assert rows["source_own_answers"].kind == rows["linear_probe"].kind == "attack"
    share = rows["inheritance"].more["program_keeps"] / rows["inheritance"].more["source_keeps"]
    assert rows["inheritance"].kind == "estimate" and abs(rows["inheritance"].value - share) < 1e-9
    assert rows["linear_probe"].n == 20
