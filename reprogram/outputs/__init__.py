"""Output mappings: from what the frozen source answers to target labels, one file a method.

``from reprogram.outputs import Diffusion`` gives a class by its name. Classes are found by their files; the list
below is for type checkers only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from reprogram.registry import by_class_name

if TYPE_CHECKING:
    from reprogram.outputs.bayesian import BayesianMapping as BayesianMapping
    from reprogram.outputs.bayesian_plus import BayesianPlusMapping as BayesianPlusMapping
    from reprogram.outputs.blend import Blend as Blend
    from reprogram.outputs.diffusion import Diffusion as Diffusion
    from reprogram.outputs.ensemble import Ensemble as Ensemble
    from reprogram.outputs.frequency import FrequencyMapping as FrequencyMapping
    from reprogram.outputs.gaussian_process import GaussianProcessMapping as GaussianProcessMapping
    from reprogram.outputs.identity import IdentityMapping as IdentityMapping
    from reprogram.outputs.iterative import IterativeMapping as IterativeMapping
    from reprogram.outputs.label_names import LabelNames as LabelNames
    from reprogram.outputs.linear import Linear as Linear
    from reprogram.outputs.linear_features import LinearFeatures as LinearFeatures
    from reprogram.outputs.logistic import Logistic as Logistic
    from reprogram.outputs.many_to_one import ManyToOne as ManyToOne
    from reprogram.outputs.prototypes import Prototypes as Prototypes
    from reprogram.outputs.random import RandomMapping as RandomMapping
    from reprogram.outputs.ridge_taps import RidgeTaps as RidgeTaps
    from reprogram.outputs.top_k import TopK as TopK


def __getattr__(name: str) -> Any:
    from reprogram.interfaces import OutputMapping

    return by_class_name(__name__, name, OutputMapping)
