"""Class names of a source, as the user gives them."""

from __future__ import annotations

from collections.abc import Sequence

from reprogram.errors import ConfigError
from reprogram.files import read_text

MOST_LABELS = 100_000
LARGEST_FILE = 16 << 20  # bytes


def read_labels(labels: Sequence[str] | str) -> tuple[str, ...]:
    """A list of names, the path of a text file with one name a line, or ``imagenet`` for its 1,000 classes."""
    if not isinstance(labels, str):
        names = tuple(map(str, labels))
    elif labels == "imagenet":
        from reprogram.sources.efficientnet import imagenet_labels

        return imagenet_labels()
    else:
        try:
            lines = read_text(labels, LARGEST_FILE, ConfigError).splitlines()
        except ConfigError as error:
            raise ConfigError(f"source.labels={labels} is not 'imagenet' and cannot be read as a file: {error}") from error
        names = tuple(line.strip() for line in lines if line.strip())
    if not 2 <= len(names) <= MOST_LABELS:
        raise ConfigError(f"source.labels names {len(names):,} classes; allowed: 2 to {MOST_LABELS:,}.")
    return names
