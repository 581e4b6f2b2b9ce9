"""Any text column of a table: topics, sentiments, scores; classes, many labels, or values."""

from __future__ import annotations

from reprogram.featurisers import TfIdf
from reprogram.targets.strings import StringReader, StringTarget, plain_text


@StringTarget
def csv() -> StringReader:
    """Text classification, multi-label (empty cells are unknown) or regression; see :class:`StringTarget`."""
    return StringReader("text", plain_text, featurisers={"tfidf": TfIdf()})
