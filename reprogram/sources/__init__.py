"""Frozen pretrained models: how to load them, what they read, what they answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

    from reprogram.interfaces import SourceModel


def load_source(source: str | nn.Module | SourceModel, /, **options: Any) -> SourceModel:
    """A frozen source from whatever a user has in hand.

    source: a name of ``conf/source`` (``efficientnet_lite0``), a Hugging Face hub name or model folder of an image
    model, a ``torch.nn.Module`` (see :class:`~reprogram.sources.module.ModuleSource` for its options), or a source.
    options: as in the configuration file. Raises ConfigError or SourceError in one sentence.
    """
    from reprogram.configuration import load
    from reprogram.configuration import options as choices
    from reprogram.interfaces import SourceModel

    if isinstance(source, SourceModel):
        return source
    if not isinstance(source, str):
        from reprogram.sources.module import ModuleSource

        return ModuleSource(source, **options)
    if source in choices("source"):
        return load("source", source, **options)
    return load("source", "huggingface", name=source, **options)
