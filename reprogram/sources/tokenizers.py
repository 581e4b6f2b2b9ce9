"""A model's tokenizer reduced to what a frozen source needs: texts to ids, and the ids around every string."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from reprogram.errors import ConfigError, SourceError, nearest
from reprogram.tokenization import splitter, tokenizations

if TYPE_CHECKING:
    from reprogram.sources.transformers_models import Checkpoint

OWN_FILES = ("tokenizer.json", "vocab.json", "tokenizer.model", "spiece.model", "sentencepiece.bpe.model")
SKIPPED = 100_000  # numbers that a tokenizer may leave out; more is a damaged file, and would fill the memory
TOKENIZER_FILES = (*OWN_FILES, "vocab.txt")
SPECIALS = {  # the roles of special tokens, and the names that they have in vocabularies
    "unk_token": ("[UNK]", "<unk>"),
    "pad_token": ("[PAD]", "<pad>"),
    "mask_token": ("[MASK]", "<mask>"),
    "cls_token": ("[CLS]", "<cls>", "<s>", "[BOS]", "<bos>"),
    "sep_token": ("[SEP]", "<sep>", "</s>", "<eos>", "[EOS]"),
}
LARGEST_PATTERN = 20_000  # tokens of a vocabulary without word pieces that are looked for by one pattern
PROBES = ("a", "A", "C", "the film was good.", "CC(=O)Nc1ccc(O)cc1Cl", "MKTAYIAKQR", "M K T A", "Größe, naïve 北京 42!")

Encode = Callable[[Sequence[str]], list[list[int]]]
Unread = Callable[[Sequence[str]], list[tuple[int, int]]]


@dataclass
class Tokenizer:
    """encode: strings -> ids without specials. padding: an id that is always masked. mask: the mask token's id.

    unread: strings -> (characters without a token that the model knows, all characters), spaces left out.
    """

    tokens: Sequence[str]
    encode: Encode
    prefix: tuple[int, ...]
    suffix: tuple[int, ...]
    padding: int
    mask: int | None
    mask_text: str | None
    max_length: int
    unread: Unread
    special: frozenset[int] = field(default=frozenset())

    def digest(self) -> str:
        """What it makes of strings, as SHA-256: its tokens in order, the ids around a string, and some readings."""
        read = [self.encode([text])[0] for text in PROBES]
        said = "\n".join([*self.tokens, repr((self.prefix, self.suffix, self.padding, self.mask, read))])
        return hashlib.sha256(said.encode("utf-8", "surrogatepass")).hexdigest()


def load_tokenizer(checkpoint: Checkpoint, kind: str, causal: bool = False) -> Tokenizer:
    """The checkpoint's tokenizer; ``kind`` ``own``, or a tokenisation of strings whose tokens are looked up.

    A folder that holds nothing but ``vocab.txt`` says only which tokens there are: see :func:`_bare`. causal: of a model
    that reads from left to right, which such a folder gives no tokens around a string.
    """
    if kind not in ("own", *tokenizations()):
        raise ConfigError(f"source.tokenizer={kind} is not known; {nearest(kind, ['own', *tokenizations()])}")
    folder = checkpoint.folder
    if folder is not None and not checkpoint.options:
        if not any((folder / file).exists() for file in TOKENIZER_FILES):
            raise SourceError(
                f"source.model={checkpoint.model} has no tokenizer: one of {', '.join(TOKENIZER_FILES)} is needed."
            )
        if not any((folder / file).exists() for file in (*OWN_FILES, "tokenizer_config.json")):
            return _bare(checkpoint, kind, causal)
    from transformers import AutoTokenizer

    return _reduced(checkpoint.load(AutoTokenizer), kind)


def _reduced(own: Any, kind: str, around: bool = True) -> Tokenizer:
    """A tokenizer of transformers; around: with what it puts around a string."""
    tokens = _tokens(own)
    vocabulary = own.get_vocab()

    encode: Encode = _ByItself(own)
    prefix, suffix = _around(own, tokens) if around else ((), ())
    unread: Unread = _UnreadCharacters(own) if getattr(own, "is_fast", False) else _UnreadTokens(encode, own.unk_token_id)
    if kind != "own":
        looked_up = _LookedUp(splitter(kind), vocabulary, own.unk_token_id)
        encode, unread = looked_up.encode, looked_up.unread
    return Tokenizer(
        tokens=tokens,
        encode=encode,
        prefix=prefix,
        suffix=suffix,
        padding=own.pad_token_id or 0,
        mask=own.mask_token_id,
        mask_text=own.mask_token,
        max_length=min(int(own.model_max_length), 1 << 20),
        unread=unread,
        special=frozenset(own.all_special_ids),
    )


def _bare(checkpoint: Checkpoint, kind: str, causal: bool) -> Tokenizer:
    """Of a folder with ``vocab.txt`` and no word about how it is used; transformers would guess by the architecture.

    Tokens such as ``##ing`` are word pieces, read as BERT reads them, in lower case only where no token has a capital
    letter (a protein vocabulary has nothing else). Without word pieces, a string is read as the longest tokens that fit,
    one after the other, so that residues and atoms need no spaces between them.
    """
    assert checkpoint.folder is not None
    try:
        lines = (checkpoint.folder / "vocab.txt").read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"The vocabulary {checkpoint.folder / 'vocab.txt'} cannot be read: {error}.") from error
    vocabulary = {token: i for i, token in enumerate(lines)}
    names = {role: next((n for n in known if n in vocabulary), None) for role, known in SPECIALS.items()}
    plain = [token for token in vocabulary if token and token not in names.values()]
    if any(token.startswith("##") for token in plain):
        from transformers import BertTokenizer

        lower = not any(character.isupper() for token in plain for character in token if not _named(token))
        named: Any = {role: name for role, name in names.items() if name}
        own = BertTokenizer(vocab=vocabulary, do_lower_case=lower, **named)
        return _reduced(own, kind, around=not causal)
    ids = {role: None if name is None else vocabulary[name] for role, name in names.items()}
    split = _longest_tokens(vocabulary, checkpoint.model) if kind == "own" else splitter(kind)
    looked_up = _LookedUp(split, vocabulary, ids["unk_token"])
    first, last = (ids["cls_token"], ids["sep_token"]) if not causal else (None, None)
    return Tokenizer(
        tokens=lines,
        encode=looked_up.encode,
        prefix=() if first is None else (first,),
        suffix=() if last is None else (last,),
        padding=ids["pad_token"] or 0,
        mask=ids["mask_token"],
        mask_text=names["mask_token"],
        max_length=1 << 20,
        unread=looked_up.unread,
        special=frozenset(i for i in ids.values() if i is not None),
    )


def _named(token: str) -> bool:
    """``[unused12]``, ``<eos>``: a name, not something that stands in a string."""
    return len(token) > 2 and (token[0], token[-1]) in (("[", "]"), ("<", ">"))


def _longest_tokens(vocabulary: dict[str, int], model: str) -> Callable[[str], list[str]]:
    if len(vocabulary) > LARGEST_PATTERN:
        raise SourceError(
            f"source.model={model} has a vocab.txt of {len(vocabulary):,} whole words and no file that defines how strings "
            "fall into them; put its tokenizer.json beside it."
        )
    tokens = sorted((token for token in vocabulary if token), key=len, reverse=True)
    pattern = re.compile("|".join([*map(re.escape, tokens), r"\S"]))
    return pattern.findall


# Objects in place of functions inside functions, because sources are pickled and copied.


@dataclass
class _ByItself:
    """encode of a tokenizer of transformers."""

    own: Any

    def __call__(self, strings: Sequence[str]) -> list[list[int]]:
        if not len(strings):
            return []
        return self.own(list(strings), add_special_tokens=False, truncation=False)["input_ids"]


@dataclass
class _LookedUp:
    """Encode and unread of strings that are split first; without an unknown token, what is not known is left out."""

    split: Callable[[str], list[str]]
    vocabulary: dict[str, int]
    unknown: int | None

    def encode(self, strings: Sequence[str]) -> list[list[int]]:
        found = ([self.vocabulary.get(piece, self.unknown) for piece in self.split(text)] for text in strings)
        return [[i for i in row if i is not None] for row in found]

    def unread(self, strings: Sequence[str]) -> list[tuple[int, int]]:
        rows = []
        for text in strings:
            pieces = [piece for piece in self.split(text) if not piece.isspace()]
            known = sum(len(p) for p in pieces if self.vocabulary.get(p, self.unknown) != self.unknown)
            rows.append((sum(map(len, pieces)) - known, sum(map(len, pieces))))
        return rows


@dataclass
class _UnreadCharacters:
    """By the characters that each token stands for: one unknown token may stand for a whole protein."""

    own: Any

    def __call__(self, strings: Sequence[str]) -> list[tuple[int, int]]:
        if not len(strings):
            return []
        found = self.own(list(strings), add_special_tokens=False, truncation=False, return_offsets_mapping=True)
        rows = []
        for text, ids, places in zip(strings, found["input_ids"], found["offset_mapping"], strict=True):
            total, known, end = _visible(text), 0, 0
            for token, (start, stop) in zip(ids, places, strict=True):
                if token != self.own.unk_token_id:
                    known += _visible(text[max(start, end) : stop])  # several tokens may share one character
                    end = max(end, stop)
            rows.append((total - known, total))
        return rows


@dataclass
class _UnreadTokens:
    """Without offsets: the share of unknown tokens is taken for that of characters."""

    encode: Encode
    unknown: int | None

    def __call__(self, strings: Sequence[str]) -> list[tuple[int, int]]:
        rows = []
        for text, ids in zip(strings, self.encode(strings), strict=True):
            total = _visible(text)
            rows.append((round(total * ids.count(self.unknown) / len(ids)) if ids else total, total))  # type: ignore[arg-type]
        return rows


def _visible(text: str) -> int:
    return len("".join(text.split()))


def _around(own: Any, tokens: Sequence[str]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Ids that the tokenizer puts before and after a string, from the first text that it reads as anything."""
    for text in ("a", "A", "C", *tokens[:200]):
        plain = own(text, add_special_tokens=False)["input_ids"]
        if plain and not set(plain) & set(own.all_special_ids) - {own.unk_token_id}:
            break
    whole = own(text)["input_ids"]
    start = next((i for i in range(len(whole)) if plain and whole[i : i + len(plain)] == plain), None)
    if start is None:
        return (), ()
    return tuple(whole[:start]), tuple(whole[start + len(plain) :])


def _tokens(own: Any) -> list[str]:
    """Token texts in id order; ids that the tokenizer skips are named by their number. Raises SourceError."""
    by_id = {index: token for token, index in own.get_vocab().items()}
    if min(by_id, default=0) < 0 or max(by_id, default=0) > 4 * len(by_id) + SKIPPED:
        odd = max(by_id) if min(by_id) >= 0 else min(by_id)
        raise SourceError(
            f"The tokenizer gives the token {str(by_id[odd])[:40]!r} the number {odd}, but it has only {len(by_id)} tokens; "
            "take its files anew from where the model came from."
        )
    return [by_id.get(i, f"<{i}>") for i in range(max(by_id) + 1)]
