"""Fast gradient sign method (Goodfellow et al. 2015, arXiv 1412.6572): one step as long as the threat allows."""

from __future__ import annotations

from dataclasses import dataclass

from reprogram.ranges import Count
from reprogram.robustness.attacks.pgd import PGD


@dataclass(eq=False)
class FGSM(PGD):
    """Fast gradient sign method (Goodfellow et al. 2015, arXiv 1412.6572): one step of the whole budget."""

    steps: Count = 1
    random_start: bool = False

    @property
    def stride(self) -> float:
        """One step of the whole budget."""
        return self.threat.eps
