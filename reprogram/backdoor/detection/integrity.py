"""Is the file itself safe to open? Pickles can run code when they are loaded; nothing here loads one.

A pickle is read opcode by opcode with the standard library's ``pickletools``, so that what it would call can be named.
"""

from __future__ import annotations

import hashlib
import json
import pickletools
import re
import struct
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reprogram.errors import SourceError

HARMLESS = re.compile(  # what a state dict of tensors calls
    r"collections OrderedDict|torch\._utils _rebuild_(tensor_v2|parameter|parameter_with_state)|torch \w*Storage"
    r"|torch\.storage \w*Storage|torch (Size|device|float\d+|int\d+|bfloat16|bool)"
)
LARGEST_PICKLE = 64 << 20  # bytes that are looked at; what a pickle calls beyond them is as unreadable as a torn one
SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".pb", ".onnx", ".npz", ".npy", ".h5")
LARGEST_HEADER = 100 << 20  # bytes, the format's own limit


@dataclass(frozen=True)
class CheckedFile:
    """kind: ``safetensors``, ``pickle`` or ``other``. calls: what a pickle would call beyond rebuilding tensors."""

    path: Path
    kind: str
    sha256: str
    calls: tuple[str, ...] = ()


def check_files(options: Mapping[str, Any]) -> list[CheckedFile]:
    """Every weight file that a source's options name (files, or folders of them), before it is loaded.

    SourceError names a pickle (and what it would call), and a safetensors file that is not whole. A pickle of tensors
    alone beside safetensors is only noted, because the safetensors are what is loaded.
    """
    found = [check_file(path) for path in _named(options)]
    for file in found:
        if file.calls:
            raise SourceError(
                f"{file.path} is a pickle that would call {file.calls[0]!r} when it is loaded: refused; "
                "ask its author for safetensors."
            )
    pickles = [file for file in found if file.kind == "pickle"]
    if pickles and not any(file.kind == "safetensors" for file in found):
        raise SourceError(
            f"{pickles[0].path} is a checkpoint in pickle format, which can run code when it is loaded: refused; "
            "ask its author for safetensors, or convert it in an isolated environment."
        )
    return found


def check_file(path: Path) -> CheckedFile:
    """One file, by its content and not by its name."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        file.seek(0)
        start = file.read(16)
    if path.suffix == ".safetensors":
        _check_safetensors(path, start)
        return CheckedFile(path, "safetensors", digest)
    streams = list(_pickles(path, start))
    if streams:
        calls = sorted({call for stream in streams for call in called(stream) if not HARMLESS.fullmatch(call)})
        return CheckedFile(path, "pickle", digest, tuple(calls))
    return CheckedFile(path, "other", digest)


def called(stream: bytes) -> list[str]:
    """``module name`` of everything that a pickle looks up, without running it."""
    found: list[str] = []
    strings: list[str] = []
    try:
        for opcode, argument, _ in pickletools.genops(stream):
            if opcode.name in ("GLOBAL", "INST"):
                found.append(str(argument))
            elif opcode.name == "STACK_GLOBAL":
                found.append(" ".join(strings[-2:]))
            elif "UNICODE" in opcode.name or "STRING" in opcode.name:
                strings.append(str(argument))
    except ValueError as error:
        found.append(f"something unreadable ({error})")
    return found


def _named(options: Mapping[str, Any]) -> Iterator[Path]:
    for value in options.values():
        if not isinstance(value, str) or not value:
            continue
        path = Path(value)
        if path.is_dir():
            yield from sorted(p for p in path.rglob("*") if p.is_file() and p.suffix in SUFFIXES)
        elif path.is_file() and path.suffix not in (".json", ".txt"):
            yield path


def _pickles(path: Path, start: bytes) -> Iterator[bytes]:
    """The pickle streams of a file: torch's zip, or a bare pickle."""
    if start[:4] == b"PK\x03\x04":
        try:
            with zipfile.ZipFile(path) as archive:
                for entry in archive.infolist():
                    if entry.filename.endswith(".pkl"):
                        with archive.open(entry) as stream:  # which may unpack to any size, whatever the entry says
                            yield stream.read(LARGEST_PICKLE)
        except (zipfile.BadZipFile, NotImplementedError, RuntimeError, OSError) as error:
            raise SourceError(f"{path} begins as a zip archive and cannot be read as one: {error}.") from error
    elif start[:1] == b"\x80" or path.suffix in (".pkl", ".pickle"):
        with path.open("rb") as file:
            yield file.read(LARGEST_PICKLE)


def _check_safetensors(path: Path, start: bytes) -> None:
    """Header and offsets: every byte of data belongs to a tensor, none lies outside the file."""
    size = path.stat().st_size
    length = struct.unpack("<Q", start[:8])[0] if len(start) >= 8 else 0
    try:
        if not 2 <= length <= min(LARGEST_HEADER, size - 8):
            raise ValueError
        with path.open("rb") as file:
            file.seek(8)
            header = json.loads(file.read(length))
        ends = [entry["data_offsets"] for name, entry in header.items() if name != "__metadata__"]
        covered = 0
        for begin, end in sorted(ends):
            if begin != covered or end < begin:
                raise ValueError
            covered = end
        if covered != size - 8 - length:
            raise ValueError
    except (ValueError, KeyError, TypeError, AttributeError):
        raise SourceError(f"{path} is not a whole safetensors file: its header does not match its data.") from None
