"""Text: strings in a language that people read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from reprogram.interfaces import SourceSpec, TargetInfo
from reprogram.modalities.base import Candidate, Config, Modality, Named, Tokenization

POOLINGS = ("mean", "max", "std")
WORDS = 12  # of a text that are left out, one at a time
LAYERS = 6  # of a deep model, evenly from the last one down


def maps_of(tokens: str, words: str) -> tuple[Named, ...]:
    """Learned maps of these target tokens, and a soft prompt that starts at ``words``."""
    prompt: Config = {"tokens": tokens, "words": words}
    return ("token_map", {"tokens": tokens}), ("dense_token_map", {"tokens": tokens}), ("soft_prompt", prompt)


class Text(Modality):
    """Six layers of a language model; the base of every modality of strings.

    ``side_features`` and ``balanced`` are what the programs of a modality of strings share; :meth:`own` adds its own programs.
    """

    batch: ClassVar[str] = "strings"
    plain_input: ClassVar[str] = "text"
    changes: ClassVar[str | None] = "words"
    simplifies: ClassVar[bool] = True
    says_class: ClassVar[str] = "This text is about {}."
    maps: ClassVar[tuple[Named, ...]] = maps_of("characters", "what this text says")
    words: ClassVar[bool] = True  # its strings are written in words, as the names of classes are
    side_features: ClassVar[tuple[str, ...]] = ("kmers",)  # plain features of a hybrid program

    def default_layers(self, spec: SourceSpec) -> tuple[str, ...]:
        """Six layers, each as mean, max and standard deviation over the tokens."""
        layers = [name for name in spec.taps if name != "head"]
        step = max(len(layers) / LAYERS, 1.0)
        last_first = [layers[len(layers) - 1 - int(i * step)] for i in range(min(LAYERS, len(layers)))]
        return tuple(f"{layer}@{pooling}" for layer in reversed(last_first) for pooling in POOLINGS)

    def candidates(
        self, spec: SourceSpec, target: TargetInfo, source: int = 0, hints: Mapping[str, Any] | None = None
    ) -> list[Candidate]:
        """Layers read from the string, and the same with plain features beside."""
        balanced: Config = {"balanced": target.problem != "regression"}
        layers: Named = ("ridge_taps", balanced)
        last = ("ridge_taps", balanced | {"layers": [f"{tap}@mean" for tap in spec.taps[-1:]], "head": False})
        found = [self.reading("last layer", {}, last, source)]
        if spec.feature_size:
            found.append(self.reading("linear probe", {}, ("linear_features", {}), source, kind="baseline"))
        found.append(self.reading("layers", {}, layers, source))
        found.append(self.reading("layers and plain features", {"features": list(self.side_features)}, layers, source))
        return found + self.names(spec, target, source) + self.own(layers, source)

    def names(self, spec: SourceSpec, target: TargetInfo, source: int) -> list[Candidate]:
        """Class names as the first guess, where strings and names are one language."""
        if not self.words or target.problem != "classification" or spec.read_names is None or not spec.feature_size:
            return []
        beside: Config = {"features": ["spelling", "words"]}
        names: Named = ("label_names", {})
        words: Named = ("logistic", {"strength": 10.0, "feature": "words"})
        title = "mean of class names and logistic regressions on features and words"
        return [
            self.reading("class names, layers and plain features", beside, names, source),
            self.reading(title, beside, mean_of(names, ("logistic", {}), words), source, tags=("preferred",)),
        ]

    def tokenizations(self) -> Mapping[str, Tokenization]:
        return {"characters": Tokenization(list)}

    def simplified(self, item: Any) -> dict[str, list[Any]]:
        """One word left out at a time, of a long text twelve evenly spaced ones."""
        if not self.simplifies:
            return {}
        words = str(item).split()
        if len(words) < 2:
            return {"words": []}
        step = max(len(words) / WORDS, 1.0)
        gone = [int(i * step) for i in range(min(WORDS, len(words)))]
        return {"words": [" ".join(words[:place] + words[place + 1 :]) for place in gone]}

    def own(self, layers: Named, source: int) -> list[Candidate]:
        """Programs of this modality alone. ``layers``: the ridge over layers that all of them share."""
        return []

    def reading(
        self,
        name: str,
        options: Config,
        output: Named,
        source: int,
        kind: str = "program",
        tags: tuple[str, ...] = (),
    ) -> Candidate:
        """A program that reads the strings in one way."""
        method = (self.plain_input, options)
        return Candidate(name, method, output, (method,), kind, source, tags)


def as_it_starts(method: Named, layers: Named, source: int, tags: tuple[str, ...] = ()) -> list[Candidate]:
    """A map of tokens that nobody trained: each target token at a place of its own, as the mean of the source's tokens for its
    name. Behind it ``layers``, and their mean with a Gaussian process. tags: of the mean."""
    name, process = method[0], ("gaussian_process", {"average": 1})
    return [
        Candidate(f"layers, untrained {name}", method, layers, (method,), source=source),
        Candidate(
            f"mean of layers and Gaussian process, untrained {name}",
            method,
            mean_of(layers, process),
            (method,),
            source=source,
            tags=tags,
        ),
    ]


def mean_of(*outputs: Named) -> Named:
    """Several mappings of the same views, their probabilities averaged."""
    return "ensemble", {"members": [{"name": name, "config": config, "views": []} for name, config in outputs]}
