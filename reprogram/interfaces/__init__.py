"""What the parts of a reprogrammed model say to each other: the words of the house as types.

Nothing here knows a method. Inputs, sources and outputs meet only in :mod:`reprogram.model`.
"""

from reprogram.interfaces.methods import Explanation, InputTransformation, Method, OutputMapping
from reprogram.interfaces.source import SourceModel, SourceOutput, SourceSpec, Tap, Vocabulary
from reprogram.interfaces.target import Examples, Featuriser, TargetInfo, TargetTask, to_tensor_labels

__all__ = [
    "Examples",
    "Explanation",
    "Featuriser",
    "InputTransformation",
    "Method",
    "OutputMapping",
    "SourceModel",
    "SourceOutput",
    "SourceSpec",
    "Tap",
    "TargetInfo",
    "TargetTask",
    "Vocabulary",
    "to_tensor_labels",
]  # fmt: skip
