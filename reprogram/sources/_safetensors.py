"""Weights from a safetensors file, all of them or an error that names the first that does not fit."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from reprogram.errors import SourceError
from reprogram.files import check_regular


def load_safetensors(model: nn.Module, path: Path) -> None:
    """All tensors of ``model`` from one safetensors file. SourceError names the first tensor that does not fit."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if path.exists():
        check_regular(path, SourceError)
    try:
        found = load_file(path)
    except (OSError, SafetensorError) as error:
        reason = "it does not exist" if isinstance(error, FileNotFoundError) else "it is not a whole safetensors file"
        raise SourceError(f"The weight file {path} cannot be read: {reason}.") from error
    wanted = model.state_dict()
    for name in (*wanted, *found):
        shapes = [tuple(t[name].shape) if name in t else "absent" for t in (wanted, found)]
        if shapes[0] != shapes[1]:
            raise SourceError(
                f"The weight file {path} does not fit: '{name}' is {shapes[1]}, the model has {shapes[0]}."
            )
    model.load_state_dict(found)
