"""A model's tokenizer reduced to what a frozen source needs: texts to ids, and the ids around every string."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from reprogram.errors import ConfigError, SourceError, nearest
from reprogram.notation import smiles_tokens

if TYPE_CHECKING:
    from reprogram.sources.transformers_models import Checkpoint

TOKENIZER_FILES = (
    "tokenizer.json", "vocab.txt", "vocab.json", "tokenizer.model", "spiece.model", "sentencepiece.bpe.model",
)  # fmt: skip


@dataclass
class Tokenizer:
    """encode: strings -> ids without specials. padding: an id that is always masked. mask: the mask token's id."""

    tokens: Sequence[str]
    encode: Callable[[Sequence[str]], list[list[int]]]
    prefix: tuple[int, ...]
    suffix: tuple[int, ...]
    padding: int
    mask: int | None
    mask_text: str | None
    max_length: int


def load_tokenizer(checkpoint: Checkpoint, kind: str) -> Tokenizer:
    """The checkpoint's tokenizer; ``kind`` ``smiles`` splits by the SMILES pattern and looks up its tokens."""
    if kind not in ("own", "smiles"):
        raise ConfigError(f"source.tokenizer={kind} is not known; {nearest(kind, ['own', 'smiles'])}")
    folder = checkpoint.folder
    if folder is not None and not checkpoint.options and not any((folder / f).exists() for f in TOKENIZER_FILES):
        raise SourceError(
            f"source.model={checkpoint.model} has no tokenizer: one of {', '.join(TOKENIZER_FILES)} is needed."
        )
    from transformers import AutoTokenizer

    own = checkpoint.load(AutoTokenizer)
    plain = own("a", add_special_tokens=False)["input_ids"]
    whole = own("a")["input_ids"]
    start = next((i for i in range(len(whole)) if whole[i : i + len(plain)] == plain), 0)

    def encode(strings: Sequence[str]) -> list[list[int]]:
        if not len(strings):
            return []
        return own(list(strings), add_special_tokens=False, truncation=False)["input_ids"]

    def encode_smiles(strings: Sequence[str]) -> list[list[int]]:
        return [own.convert_tokens_to_ids(smiles_tokens(text)) for text in strings]

    return Tokenizer(
        tokens=_tokens(own),
        encode=encode_smiles if kind == "smiles" else encode,
        prefix=tuple(whole[:start]),
        suffix=tuple(whole[start + len(plain) :]),
        padding=own.pad_token_id or 0,
        mask=own.mask_token_id,
        mask_text=own.mask_token,
        max_length=min(int(own.model_max_length), 1 << 20),
    )


def _tokens(own: Any) -> list[str]:
    """Token texts in id order; ids that the tokenizer skips are named by their number."""
    by_id = {index: token for token, index in own.get_vocab().items()}
    return [by_id.get(i, f"<{i}>") for i in range(max(by_id) + 1)]
