"""What a stranger may do to a program folder: bytes, JSON, tensors, headers and special files, drawn by a seed."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import pickle
import random
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, save

JSON_FILE, TENSOR_FILE, CARD_FILE = "program.json", "program.safetensors", "README.md"
METHODS = (
    *("none", "pad", "full", "coarse", "low_rank", "resize", "sample_mask", "views", "text", "soft_prompt", "token_map"),
    *("dense_token_map", "prompt_text", "decoder_prompt", "smiles", "ridge_taps", "linear", "linear_features", "top_k"),
    *("bayesian", "bayesian_plus", "frequency", "iterative", "identity", "many_to_one", "random", "ensemble"),
    *("gaussian_process", "_ridge", "base", "os", "../../os", "os.system", ""),
)
LOADERS = (
    *("small_cnn", "text", "huggingface", "clip", "efficientnet", "minilm", "module", "remote", "callable"),
    *("black_box", "_asked", "os", "subprocess", "../x", ""),
)
OPTIONS = (
    *("size", "sizes", "width", "examples", "groups", "nodes", "members", "layers", "average", "trees", "length", "slots"),
    *("rank", "grid", "k", "each", "seed", "atoms", "sparsity", "labels", "name", "model", "weights", "url", "function"),
    *("_target_", "architecture", "channels", "random_weights", "templates", "tokens_per_batch", "max_length", "cache"),
    *("words", "template", "flip", "head", "normalise", "balanced", "inner", "scale", "mean", "std", "classes"),
)


def values(rng: random.Random, outside: Path) -> Any:
    """One odd value."""
    plain: tuple[Any, ...] = (
        *(None, True, False, 0, 1, -1, 2, 3, 7, 63, 64, 500, 2048, 4096, 19_999, 20_000, 20_001, 10**6, 10**7, 10**9),
        *(2**31, 2**63, 10**30, -(10**9), 0.5, -0.0, 1e-300, 1e300, -1e308, 1e7),
        *("", "a", "1", "auto", "imagenet", "os.system", "../../x", "/dev/zero", "/dev/urandom", "/dev/tty", "/proc/self/mem"),
        *(str(outside), str(outside / "pipe"), str(outside / "secret.txt"), str(outside / "payload.pt"), "~/.ssh/id_rsa"),
        *("http://127.0.0.1:9/x", "file:///etc/passwd", "user/name", "\x00", "\n\x1b[2J", "\ud800", "ü" * 300, "x" * 5000),
        *("block_1@1", "block_1@999999999", "source:5", "bits:3", "${oc.env:HOME}", "{{7*7}}", "{}"),
        *([], {}, [[]], [0], [1, 2, 3], ["a", "a"], {"_target_": "os.system"}, {"a": {"b": 1}}, [None], [10**7] * 3),
    )
    kind = rng.random()
    if kind < 0.85:
        return copy.deepcopy(rng.choice(plain))
    if kind < 0.92:
        return [copy.deepcopy(rng.choice(plain)) for _ in range(rng.choice((1, 3, 40, 1500)))]
    if kind < 0.97:
        return {str(rng.choice(OPTIONS)): copy.deepcopy(rng.choice(plain)) for _ in range(3)}
    nested: Any = 1
    for _ in range(rng.choice((5, 60, 900))):
        nested = [nested] if rng.random() < 0.5 else {"a": nested}
    return nested


def places(tree: Any, found: list[tuple[Any, Any]] | None = None) -> list[tuple[Any, Any]]:
    """(container, key) of every value."""
    found = [] if found is None else found
    for key, value in list(tree.items() if isinstance(tree, dict) else enumerate(tree)):
        found.append((tree, key))
        if isinstance(value, dict | list):
            places(value, found)
    return found


@dataclass
class Mutator:
    """folder: what is changed. outside: a folder that must never be; it holds a pipe, a secret and a payload."""

    folder: Path
    outside: Path
    rng: random.Random

    def kinds(self) -> dict[str, Callable[[], None]]:
        special = {} if not hasattr(os, "mkfifo") else {"special file": self.special_file}
        return {
            "bytes": self.bytes,
            "JSON value": self.json_value,
            "JSON structure": self.json_structure,
            "JSON text": self.json_text,
            "method": self.method,
            "source": self.source,
            "classes": self.classes,
            "metrics": self.metrics,
            "tensors": self.tensors,
            "header": self.header,
            "pickle": self.pickle,
            **({"model folder": self.model_folder} if (self.folder / "model").is_dir() else {}),
            **special,
        }

    def __call__(self) -> str:
        """Apply one to three mutations; returns the kind of the last."""
        kinds = self.kinds()
        name = ""
        for _ in range(self.rng.choice((1, 1, 1, 2, 3))):
            name = self.rng.choice(list(kinds))
            try:
                kinds[name]()
            except Exception:
                continue  # the file was made something else by the mutation before
        return name

    # files ----------------------------------------------------------------------------------------------------------

    def _any_file(self) -> Path:
        model = self.folder / "model"
        if model.is_dir() and self.rng.random() < 0.5:
            return self.rng.choice(sorted(model.iterdir()))
        return self.folder / self.rng.choice((JSON_FILE, JSON_FILE, TENSOR_FILE, CARD_FILE))

    def _read(self, name: str) -> bytes:
        path = self.folder / name
        if not path.is_file() or path.stat().st_size > 1 << 24:
            raise OSError
        return path.read_bytes()

    def _put(self, name: str, data: bytes) -> None:
        """A plain file in place of whatever stood there: a mutation before may have left a pipe or a link."""
        (self.folder / name).unlink(missing_ok=True)
        (self.folder / name).write_bytes(data)

    def _write_json(self, description: Any) -> None:
        text = json.dumps(description, ensure_ascii=self.rng.random() < 0.5)
        self._put(JSON_FILE, text.encode("utf-8", "surrogatepass"))

    def _json(self) -> Any:
        return json.loads(self._read(JSON_FILE))

    def _write_tensors(self, data: bytes) -> None:
        """With the right digest: a stranger can compute one too."""
        self._put(TENSOR_FILE, data)
        description = self._json()
        description["tensors"] = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
        self._write_json(description)

    def bytes(self) -> None:
        path = self._any_file()
        data = bytearray(self._read(str(path.relative_to(self.folder))))
        for _ in range(self.rng.choice((1, 2, 8))):
            at = self.rng.randrange(len(data) + 1)
            how = self.rng.randrange(5)
            if how == 0 and data:
                data[at % len(data)] ^= self.rng.randrange(1, 256)
            elif how == 1:
                data[at:at] = self.rng.randbytes(self.rng.choice((1, 4, 100)))
            elif how == 2:
                del data[at : at + self.rng.choice((1, 8, 200))]
            elif how == 3:
                data = data[:at]
            else:
                data += data[at : at + 100]
        path.unlink(missing_ok=True)
        path.write_bytes(bytes(data))

    def special_file(self) -> None:
        path = self._any_file()
        path.unlink(missing_ok=True)
        how = self.rng.randrange(9)
        if how == 0:
            os.mkfifo(path)
        elif how == 1:
            path.mkdir()
        elif how == 2:
            path.symlink_to(path)
        elif how == 3:
            path.symlink_to(self.folder / "nowhere")
        elif how == 4:
            with path.open("wb") as file:  # a sparse giant
                file.truncate(self.rng.choice((1 << 25, 1 << 33, 1 << 40)))
        elif how == 5:
            path.symlink_to(self.outside / self.rng.choice(("secret.txt", "pipe", "payload.pt")))
        else:
            path.symlink_to(self.rng.choice(("/dev/zero", "/dev/urandom", "/dev/tty", "/dev/full", "/proc/self/mem")))

    def model_folder(self) -> None:
        """A model that the program names: its configuration, its tokenizer, and code beside them."""
        model = self.folder / "model"
        path = model / self.rng.choice(("config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"))
        how = self.rng.randrange(4)
        if how == 0:
            (model / "evil.py").write_text(f"import os\nos.mkdir({str(self.outside / 'executed')!r})\nclass A: pass\n")
            path = model / "config.json"
            settings = json.loads(path.read_bytes())
            autos = ("AutoConfig", "AutoModel", "AutoTokenizer")
            settings |= {"auto_map": {name: "evil.A" for name in autos}, "model_type": self.rng.choice(("bert", "evil"))}
            path.write_text(json.dumps(settings))
        elif how == 1:
            path.unlink()
        else:
            settings = json.loads(path.read_bytes())
            container, key = self.rng.choice(places(settings))
            container[key] = values(self.rng, self.outside)
            path.write_bytes(json.dumps(settings).encode("utf-8", "surrogatepass"))

    # program.json ---------------------------------------------------------------------------------------------------

    def json_value(self) -> None:
        description = self._json()
        container, key = self.rng.choice(places(description))
        container[key] = values(self.rng, self.outside)
        self._write_json(description)

    def json_structure(self) -> None:
        description = self._json()
        found = places(description)
        container, key = self.rng.choice(found)
        how = self.rng.randrange(4)
        if how == 0:
            del container[key]
        elif how == 1:
            other, place = self.rng.choice(found)
            container[key], other[place] = copy.deepcopy(other[place]), copy.deepcopy(container[key])
        elif how == 2 and isinstance(container, dict):
            container[self.rng.choice(OPTIONS)] = values(self.rng, self.outside)
        else:
            description = self.rng.choice(([description], {"a": description}, description.get("source"), "x", 1, None))
        self._write_json(description)

    def json_text(self) -> None:
        text = self._read(JSON_FILE).decode("utf-8", "replace")
        changed = self.rng.choice(
            (
                lambda: text.encode("utf-16"),
                lambda: b"\xef\xbb\xbf" + text.encode(),
                lambda: text.replace("1", "1" * self.rng.choice((20, 400, 5000)), 1).encode(),
                lambda: text.replace(": ", ": NaN, ", 1).encode(),
                lambda: ("[" * self.rng.choice((1000, 100_000)) + text).encode(),
                lambda: (text + text).encode(),
                lambda: text.replace('"schema"', '"schema": 1, "schema"').encode(),
                lambda: b'{"schema": 1, "target": ' + b"[" * 500 + b"]" * 500 + b"}",
                lambda: text.replace("a", "\\u0000", 3).encode(),
                lambda: b"",
                lambda: b"{" + b'"a":1,' * 200_000 + text.encode()[1:],
            )
        )()
        self._put(JSON_FILE, changed)

    def method(self) -> None:
        description = self._json()
        part = description[self.rng.choice(("input", "output"))]
        if self.rng.random() < 0.7:
            part["name"] = self.rng.choice(METHODS)
        if self.rng.random() < 0.5:
            part["config"] = {}
        for _ in range(self.rng.randrange(4)):
            part["config"][self.rng.choice(OPTIONS)] = values(self.rng, self.outside)
        if self.rng.random() < 0.2:
            member = {"name": self.rng.choice(METHODS), "config": {}, "views": [self.rng.choice((0, 1, -1, 10**6))]}
            part["config"] = {"members": [member] * self.rng.choice((1, 2, 900, 1001))}
        self._write_json(description)

    def source(self) -> None:
        description = self._json()
        source = description["source"]
        if self.rng.random() < 0.7:
            source["loader"] = self.rng.choice(LOADERS)
        if self.rng.random() < 0.5:
            source["options"] = {}
        for _ in range(self.rng.randrange(1, 4)):
            source["options"][self.rng.choice(OPTIONS)] = values(self.rng, self.outside)
        self._write_json(description)

    def classes(self) -> None:
        description = self._json()
        count = 100_000 if self.rng.random() < 0.02 else self.rng.choice((1, 2, 4, 1000))
        description["target"]["classes"] = [f"c{i}" for i in range(count)]
        description["target"]["problem"] = self.rng.choice(("classification", "multilabel", "regression", "x"))
        description["target"]["kind"] = self.rng.choice(("image", "text", "sequence", "molecule", "x"))
        sides = (0, 1, 8, 20_000, 20_001, 10**9, -1, "3", None, True)
        description["target"]["input_shape"] = [self.rng.choice(sides) for _ in range(self.rng.choice((2, 3, 3, 4)))]
        self._write_json(description)

    def metrics(self) -> None:
        description = self._json()
        odd = values(self.rng, self.outside)
        description["metrics"] = self.rng.choice(
            (odd, {"accuracy": odd}, {"accuracy": {"value": odd}}, {"accuracy": {"value": 0.5, "low": odd}}, {"": odd})
        )
        self._write_json(description)

    # program.safetensors --------------------------------------------------------------------------------------------

    def tensors(self) -> None:
        found = load(self._read(TENSOR_FILE))
        name = self.rng.choice(sorted(found))
        one = found[name]
        odd = self.rng.choice((float("nan"), float("inf"), -1.0, 1e38, 10.0**6, 0.0))
        how = self.rng.randrange(8)
        if how == 0:
            found[name] = torch.full_like(one, odd if one.is_floating_point() else 10**9 if one.dtype != torch.uint8 else 9)
        elif how == 1:
            found[name] = one.to(self.rng.choice((torch.float16, torch.float64, torch.int64, torch.bool, torch.uint8)))
        elif how == 2:
            found[name] = one.reshape(-1)
        elif how == 3:
            found[name] = torch.zeros(self.rng.choice(((0,), (1,), (3, 3), (10**6,), (1, 1, 1, 1))), dtype=one.dtype)
        elif how == 4:
            del found[name]
        elif how == 5:
            found[self.rng.choice(("output.more", "input.x", "", "output.", "a\n"))] = torch.zeros(2)
        elif how == 6:
            found[name + "x"] = found.pop(name)
        else:
            found = {key: torch.randn_like(t.float()).to(t.dtype) for key, t in found.items()}
        self._write_tensors(save(found))

    def header(self) -> None:
        data = self._read(TENSOR_FILE)
        size = struct.unpack("<Q", data[:8])[0]
        header = json.loads(data[8 : 8 + size])
        names = [name for name in header if name != "__metadata__"]
        entry = header[self.rng.choice(names)]
        how = self.rng.randrange(6)
        if how == 0:
            entry["shape"] = self.rng.choice(([10**9, 10**9], [-1], [2**62], "3", [], None, [1] * 5000))
        elif how == 1:
            entry["data_offsets"] = self.rng.choice(([0, 10**12], [-4, 4], [8, 4], [0, 0], None, [0]))
        elif how == 2:
            entry["dtype"] = self.rng.choice(("F64", "F8_E4M3", "BF16", "U64", "OBJECT", 3, None, "BOOL", "I64"))
        elif how == 3:
            header["__metadata__"] = self.rng.choice(({"a": "b" * 10**6}, {"a": 1}, [], {"_target_": "os.system"}))
        elif how == 4:
            header[names[0]] = values(self.rng, self.outside)
        text = json.dumps(header).encode("utf-8", "surrogatepass")
        length = len(text) if how != 5 else self.rng.choice((0, 1, 2**40, 2**63, len(text) + 7))
        self._write_tensors(struct.pack("<Q", length) + text + data[8 + size :])

    def pickle(self) -> None:
        """Code in the place of tensors: it leaves a trace in ``outside`` where it runs."""

        class Payload:
            def __reduce__(inner) -> Any:
                return os.mkdir, (str(self.outside / "executed"),)

        self._write_tensors(pickle.dumps({"output.bias": Payload()}))
