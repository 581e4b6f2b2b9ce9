"""Class names of a source, as the user gives them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from reprogram.errors import ConfigError


def read_labels(labels: Sequence[str] | str) -> tuple[str, ...]:
    """A list of names, the path of a text file with one name a line, or ``imagenet`` for its 1,000 classes."""
    if not isinstance(labels, str):
        names = tuple(map(str, labels))
    elif labels == "imagenet":
        from reprogram.sources.efficientnet import imagenet_labels

        return imagenet_labels()
    else:
        try:
            names = tuple(line.strip() for line in Path(labels).read_text().splitlines() if line.strip())
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"source.labels={labels} is not 'imagenet' and cannot be read as a file.") from error
    if len(names) < 2:
        raise ConfigError(f"source.labels names {len(names)} classes; at least two are needed.")
    return names
