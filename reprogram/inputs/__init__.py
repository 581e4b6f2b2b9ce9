"""Input transformations: from a target input to what a source reads. One file a method.

``from reprogram.inputs import Pad`` gives a class by its name. Classes are found by their files; the list
below is for type checkers only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from reprogram.registry import by_class_name

if TYPE_CHECKING:
    from reprogram.inputs.coarse import Coarse as Coarse
    from reprogram.inputs.decoder_prompt import DecoderPrompt as DecoderPrompt
    from reprogram.inputs.dense_token_map import DenseTokenMap as DenseTokenMap
    from reprogram.inputs.full import Full as Full
    from reprogram.inputs.low_rank import LowRank as LowRank
    from reprogram.inputs.none import NoPrompt as NoPrompt
    from reprogram.inputs.pad import Pad as Pad
    from reprogram.inputs.prompt_text import PromptText as PromptText
    from reprogram.inputs.resize import Resize as Resize
    from reprogram.inputs.sample_mask import SampleMask as SampleMask
    from reprogram.inputs.soft_prompt import SoftPrompt as SoftPrompt
    from reprogram.inputs.text import Text as Text
    from reprogram.inputs.token_map import TokenMap as TokenMap
    from reprogram.inputs.views import Views as Views


def __getattr__(name: str) -> Any:
    from reprogram.interfaces import InputTransformation

    return by_class_name(__name__, name, InputTransformation)
