"""Small classifiers that every robustness test looks at, and their test digits."""

from __future__ import annotations

import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F


def digits(classes: int = 10) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """8x8 digits in [0, 1]: train images, labels, test images, labels of the first ``classes`` classes."""
    data = load_digits(n_class=classes)
    images, labels = torch.tensor(data.images / 16, dtype=torch.float32)[:, None], torch.tensor(data.target)
    return images[:700], labels[:700], images[-150:], labels[-150:]


def train(model: nn.Module, images: Tensor, labels: Tensor, epochs: int = 8) -> nn.Module:
    optimiser = torch.optim.Adam(model.parameters(), 3e-3)
    generator = torch.Generator().manual_seed(0)
    for _ in range(epochs):
        for rows in torch.randperm(len(images), generator=generator).split(64):
            loss = nn.functional.cross_entropy(model(images[rows]), labels[rows])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return model.eval().requires_grad_(False)


def cnn(classes: int = 10) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, 2, 1), nn.ReLU(), nn.Flatten(),
        nn.Linear(128, classes),
    )  # fmt: skip


class Rounded(nn.Module):
    """The known masking case: input rounded to 1/16, so gradients vanish without any robustness."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        return self.model(torch.round(images * 16) / 16)


class Everything(nn.Module):
    """Resize, pad, a prompt, convolution, BatchNorm, ReLU6, a residual, max and average pooling, tanh, sigmoid, cat."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.norm = nn.Conv2d(1, 3, 3, padding=1), nn.BatchNorm2d(3)
        self.second, self.third = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 2, 3, padding=1)
        self.last = nn.Linear(8, 3)
        self.norm.running_mean.normal_()
        self.norm.running_var.uniform_(0.5, 2)
        self.prompt = torch.rand(1, 1, 10, 10)
        self.eval().requires_grad_(False)

    def forward(self, x):
        x = F.interpolate(x, size=(8, 8), mode="bilinear", antialias=True)
        x = F.pad(x, (1, 1, 1, 1)) + self.prompt.to(x)
        x = F.relu6(self.norm(self.first(x)))
        x = torch.relu(self.second(x)) + x
        x = F.max_pool2d(x, 3, 2, 1)
        x = F.avg_pool2d(torch.tanh(self.third(x)), 2)
        answer = self.last(torch.sigmoid(x.flatten(1)))
        return torch.cat([answer * 2 - 1, x.mean((2, 3))], 1)


@pytest.fixture(scope="session")
def everything() -> nn.Module:
    return Everything()


@pytest.fixture(scope="session")
def colour_model() -> nn.Module:
    """A convolution over 5x5 colours, two classes."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(36, 2)).requires_grad_(False)


@pytest.fixture(scope="session")
def digit_cnns() -> dict[int, tuple[nn.Module, Tensor, Tensor]]:
    """Trained classifiers of 2, 3 and 10 classes with 60 test images each."""
    torch.set_num_threads(1)
    found = {}
    for classes in (2, 3, 10):
        images, labels, test_images, test_labels = digits(classes)
        found[classes] = (train(cnn(classes), images, labels), test_images[:60], test_labels[:60])
    return found


@pytest.fixture(scope="session")
def digit_cnn(digit_cnns):
    return digit_cnns[10]


@pytest.fixture
def rounded():
    return Rounded


@pytest.fixture(scope="session")
def linear_model() -> nn.Module:
    """Flatten and Linear(12, 3) with fixed weights: everything about it is known in closed form."""
    torch.manual_seed(1)
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 3)).eval().requires_grad_(False)
