"""A program on disk: ``program.safetensors``, ``program.json`` that says what its tensors mean, ``README.md``.

As in PEFT, the frozen model is named and never copied; ``save_pretrained``, ``from_pretrained`` and ``push_to_hub`` do
what their namesakes do there. A program may come from a stranger, so that loading executes nothing: methods are chosen
by name among ours, every value is checked against its type and every tensor against the shape that the method builds.
Whatever is wrong ends in one :class:`ArtifactError` sentence. Files are read by :mod:`reprogram.files`: regular ones alone,
and never more bytes than are allowed.

program.json::

    {"schema": 2, "version": "0.1.0",
     "source": {"name", "fingerprint", "loader", "options"},    # loader: a file of reprogram.sources, or null
     "target": {"name", "kind", "problem", "classes", "input_shape", "descriptions"?},
     "input":  {"name", "config"}, "output": {"name", "config"},
     "metrics": {…}, "tensors": {"sha256", "bytes"},
     "applicability": {"measure", "labelled", "threshold", "level"},    # or absent: nothing is known of the examples
     "conformal": {"examples", "scores": […]}}    # or absent: intervals and sets are unknown
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reprogram import __version__
from reprogram.errors import ArtifactError, ReprogramError, nearest
from reprogram.files import read_bytes, read_json
from reprogram.interfaces import InputTransformation, Method, OutputMapping, SourceModel, TargetInfo
from reprogram.modalities import known, modality
from reprogram.older_programs import SCHEMA, convert
from reprogram.plain import cell
from reprogram.registry import find, name_of
from reprogram.result import finite, write_atomically
from reprogram.typecheck import check_arguments

if TYPE_CHECKING:
    from torch import Tensor

    from reprogram.model import ReprogrammedModel

JSON_FILE, TENSOR_FILE, CARD_FILE = "program.json", "program.safetensors", "README.md"
LARGEST_JSON = 16 << 20  # bytes; names of 100,000 classes fit
SLACK = 8 << 20  # bytes that a description may order beyond what its file holds
LARGEST_TENSORS = 1 << 30  # bytes; a program is kilobytes, a kernel expansion megabytes
LARGEST_COUNT = 20_000  # numbers in a configuration that no tensor of the file stands for; seeds may be larger
LONGEST_LIST, LONGEST_TEXT = 1_000, 4_096  # in a configuration


def save_pretrained(
    model: ReprogrammedModel, folder: str | Path, metrics: dict[str, Any] | None = None, card: str | None = None
) -> Path:
    """Write the program of ``model`` to ``folder`` and return it.

    metrics: what was measured, kept in ``program.json`` and in the card. card: the text of ``README.md``; the default
    says what the program is and how to load it. Each file is replaced atomically; ``program.json``, which holds the
    digest of the tensors, comes last. Raises ArtifactError where a part cannot be kept or the disk refuses.
    """
    from safetensors.torch import save

    folder = Path(folder)
    tensors = {name: t.detach().cpu().contiguous() for name, t in model.program().items()}
    known = model.applicability
    data = save(tensors | (known.tensors() if known is not None else {}), metadata={"format": "pt"})
    description = {
        "schema": SCHEMA,
        "version": __version__,
        "source": {"name": model.source.name, "fingerprint": model.source.fingerprint()}
        | (model.source.origin() or {"loader": None, "options": {}}),
        "target": model.target.to_json(),
        "input": _describe(model.input, "reprogram.inputs"),
        "output": _describe(model.output, "reprogram.outputs"),
        "metrics": finite(metrics or {}),
        "tensors": {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)},
    } | ({"applicability": known.to_json()} if known is not None else {})
    if model.conformal is not None:
        description["conformal"] = model.conformal.to_json()
    try:
        write_atomically(folder / CARD_FILE, card if card is not None else model_card(description))
        write_atomically(folder / TENSOR_FILE, data)
        write_atomically(folder / JSON_FILE, json.dumps(description, indent=2, ensure_ascii=False) + "\n")
    except OSError as error:
        raise ArtifactError(f"The program cannot be saved in {folder}: {error.strerror or error}.") from error
    return folder


def from_pretrained(
    folder_or_hub_id: str | Path, source: SourceModel | None = None, device: str = "cpu"
) -> ReprogrammedModel:
    """The reprogrammed model of a folder or of a Hugging Face Hub id (``user/name``).

    source: the frozen model, where it is loaded already or where the program cannot name it (a module from Python);
    left out, it is loaded as the program says. Raises ArtifactError in one sentence if anything does not fit.
    """
    try:
        return _load(_locate(folder_or_hub_id), source).to(device)
    except ArtifactError as error:
        raise ArtifactError(f"{_one_line(error, 800)}.") from error
    except (ReprogramError, MemoryError, RecursionError, ArithmeticError, LookupError, TypeError, ValueError) as error:
        # a stranger's values reach every line of the loading; that nothing else comes out of it is tested by mutations
        raise ArtifactError(f"The program in {folder_or_hub_id} cannot be loaded: {_one_line(error)}.") from error


def _load(folder: Path, source: SourceModel | None) -> ReprogrammedModel:
    from reprogram.applicability.base import PREFIX, Applicability
    from reprogram.model import ReprogrammedModel
    from reprogram.prediction.conformal import Conformal

    description = _read_description(folder / JSON_FILE)
    target = _target(description["target"], folder)
    source = source if source is not None else _load_source(description["source"], folder)
    _check_fingerprint(source, description["source"], folder)
    tensors = _read_tensors(folder / TENSOR_FILE, description["tensors"])
    held = sum(t.numel() for t in tensors.values())
    for part in ("input", "output"):
        _check_amounts(description[part]["config"], held, f"{part} of {folder / JSON_FILE}")

    beside = {name: tensors.pop(name) for name in list(tensors) if name.startswith(PREFIX)}

    def build() -> ReprogrammedModel:
        where = folder / JSON_FILE
        return ReprogrammedModel(
            source,
            _method(description["input"], "reprogram.inputs", InputTransformation, f"input of {where}"),
            _method(description["output"], "reprogram.outputs", OutputMapping, f"output of {where}"),
            target,
        )

    _check_plan(build, tensors, folder)
    try:
        model = build()
        model.load_program(tensors)
    except ArtifactError as error:
        raise ArtifactError(f"The program in {folder} does not fit its description: {error}") from error
    except Exception as error:  # a stranger's numbers reach every line of build(): whatever it raises, they do not fit
        raise ArtifactError(
            f"The program in {folder} cannot be built for source '{source.name}': {_one_line(error)}."
        ) from error
    for tap in model.output.taps():
        if tap.layer not in source.spec.taps:
            raise ArtifactError(
                f"The program in {folder} reads the layer '{tap.layer}', which source '{source.name}' does not have; "
                f"{nearest(tap.layer, source.spec.taps)}"
            )
    if "applicability" in description:
        model.applicability = Applicability.load(description["applicability"], beside, str(folder / JSON_FILE))
    if "conformal" in description:
        model.conformal = Conformal.load(description["conformal"], str(folder / JSON_FILE))
    return model


def describe_program(folder_or_hub_id: str | Path) -> dict[str, Any]:
    """The content of ``program.json``, checked; nothing is built. Raises ArtifactError.

    ``metrics`` are ``{name: {"value", "low", "high"}}`` with numbers or None, whatever shape they were kept in.
    """
    return _read_description(_locate(folder_or_hub_id) / JSON_FILE)


def push_to_hub(model: ReprogrammedModel, repo_id: str, private: bool = False, **kwargs: Any) -> str:
    """Save and upload the program to the Hugging Face Hub; returns the address of the commit.

    ``kwargs`` go to :func:`save_pretrained`. The token is the one that ``hf auth login`` keeps.
    """
    import tempfile

    from huggingface_hub import HfApi

    api = HfApi()
    with tempfile.TemporaryDirectory() as folder:
        save_pretrained(model, folder, **kwargs)
        try:
            api.create_repo(repo_id, private=private, exist_ok=True)
            return str(api.upload_folder(repo_id=repo_id, folder_path=folder, commit_message="Upload program"))
        except Exception as error:  # HTTP, login and naming errors of several libraries
            raise ArtifactError(f"The program cannot be uploaded to '{repo_id}': {_one_line(error)}.") from error


def model_card(description: dict[str, Any]) -> str:
    """A plain model card for the content of ``program.json``."""
    target, source = description["target"], description["source"]
    rows = [
        ("Source model (frozen)", f"{source['name']}, SHA-256 `{source['fingerprint'][:16]}…`"),
        ("Target task", f"{target['name']}: {', '.join(target['classes'][:20])}" + " …" * (len(target["classes"]) > 20)),
        ("Input transformation", f"{description['input']['name']} `{json.dumps(description['input']['config'])}`"),
        ("Output mapping", f"{description['output']['name']} `{json.dumps(description['output']['config'])}`"),
        ("Size", f"{description['tensors']['bytes']:,} bytes"),
    ]
    for name, metric in _metrics(description["metrics"]).items():
        between = "" if metric["low"] is None else f" ({metric['low']:.3f} to {metric['high']:.3f})"
        rows.append((name.replace("_", " "), f"{metric['value']:.3f}{between}"))
    table = "\n".join(f"| {name} | {cell(value)} |" for name, value in rows)
    return (
        "---\nlibrary_name: reprogram\ntags:\n- reprogram\n- model-reprogramming\n---\n"
        f"# A program for {target['name']}\n\n"
        "It makes a frozen pretrained model do this job; that model is not in this folder and never changes.\n\n"
        f"| | |\n|---|---|\n{table}\n\n"
        '```python\nfrom reprogram import from_pretrained\n\nmodel = from_pretrained("PATH_OR_HUB_ID")\n'
        "logits = model(batch)  # pixels [B, C, H, W] in [0, 1], or a list of strings\n```\n"
    )


def _describe(method: Method, package: str) -> dict[str, Any]:
    name = name_of(package, type(method))
    if name is None:
        raise ArtifactError(
            f"{type(method).__module__}.{type(method).__name__} cannot be kept in a program: methods are found again by "
            f"their file name in {package}, or by an entry point '{package}' of the package that brings them."
        )
    return {"name": name, "config": method.config()}


def _locate(folder_or_hub_id: str | Path) -> Path:
    folder, name = Path(folder_or_hub_id).expanduser(), str(folder_or_hub_id)
    if folder.is_dir():
        if not (folder / JSON_FILE).exists() and (folder / "program" / JSON_FILE).exists():
            raise ArtifactError(f"{folder} is the folder of a run and no program; its program is {folder / 'program'}.")
        return folder
    if folder.exists():
        raise ArtifactError(f"{folder} is a file; a program is a folder with {JSON_FILE} and {TENSOR_FILE}.")
    if name.count("/") != 1 or name.startswith(("/", ".", "~")):
        raise ArtifactError(f"There is no folder {folder}; a program is a folder or a Hub id such as user/name.")
    from huggingface_hub import hf_hub_download

    try:
        paths = [hf_hub_download(name, file) for file in (JSON_FILE, TENSOR_FILE)]
    except Exception as error:  # HTTP, login, cache and naming errors of several libraries
        raise ArtifactError(
            f"'{name}' is neither a folder nor a program that the Hugging Face Hub gives: {_one_line(error)}."
        ) from error
    return Path(paths[0]).parent


def _read_description(path: Path) -> dict[str, Any]:
    description = read_json(path, LARGEST_JSON)
    if not isinstance(description, dict) or type(description.get("schema")) is not int:
        raise ArtifactError(f"{path} does not describe a program: 'schema' is missing.")
    description = convert(description)
    if description["schema"] != SCHEMA:
        raise ArtifactError(f"{path} has schema {description['schema']}; this version reads schemas 1 to {SCHEMA}.")
    for key, keys in _REQUIRED.items():
        part = description.get(key)
        if not isinstance(part, dict):
            raise ArtifactError(f"{path} lacks '{key}', or it is not an object.")
        for inner, allowed in keys.items():
            if inner not in part or not isinstance(part[inner], allowed) or isinstance(part[inner], bool):
                raise ArtifactError(f"{path}: '{key}.{inner}' is missing or is not of the right type.")
            if isinstance(part[inner], str) and len(part[inner]) > LONGEST_TEXT:
                raise ArtifactError(f"{path}: '{key}.{inner}' is longer than {LONGEST_TEXT:,} characters.")
    return description | {"metrics": _metrics(description.get("metrics"))}


def _metrics(found: Any) -> dict[str, dict[str, Any]]:
    """Figures as they may be kept (a number, or an object with one) as ``{name: {"value", "low", "high"}}``."""
    read = {}
    for name, metric in found.items() if isinstance(found, dict) else ():
        given = metric if isinstance(metric, dict) else {"value": metric}
        figures = {key: given.get(key) if _is_number(given.get(key)) else None for key in ("value", "low", "high")}
        if figures["value"] is not None:
            if figures["low"] is None or figures["high"] is None:
                figures |= {"low": None, "high": None}
            read[name] = {key: None if value is None else float(value) for key, value in figures.items()}
    return read


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300  # float() takes it


def _check_amounts(config: Any, held: int, where: str, key: str = "config") -> None:
    """Refuse numbers that no tensor stands for, and lists and texts beyond all use, before anything is built of them."""
    if isinstance(config, dict | list):
        if len(config) > LONGEST_LIST:
            raise ArtifactError(f"The {where} has {len(config):,} entries in '{key}'; at most {LONGEST_LIST:,} are read.")
        for name, value in config.items() if isinstance(config, dict) else ((key, value) for value in config):
            _check_amounts(value, held, where, str(name)[:80])
    elif isinstance(config, str) and len(config) > LONGEST_TEXT:
        raise ArtifactError(f"The {where} has a text of {len(config):,} characters in '{key}'.")
    elif isinstance(config, int) and key != "seed" and abs(config) > max(LARGEST_COUNT, held):
        raise ArtifactError(
            f"The {where} has {key}={config if abs(config) < 10**30 else 'a number of many digits'}, but the tensors of the "
            f"program have {held:,} numbers."
        )


_TEXT = (str,)
_REQUIRED: dict[str, dict[str, tuple[type, ...]]] = {
    "source": {"name": _TEXT, "fingerprint": _TEXT, "loader": (str, type(None)), "options": (dict,)},
    "target": {"name": _TEXT, "kind": _TEXT, "problem": _TEXT, "classes": (list,), "input_shape": (list, type(None))},
    "input": {"name": _TEXT, "config": (dict,)},
    "output": {"name": _TEXT, "config": (dict,)},
    "tensors": {"sha256": _TEXT, "bytes": (int,)},
}


def _target(data: dict[str, Any], folder: Path) -> TargetInfo:
    where = f"'target' of {folder / JSON_FILE}"
    if not data["classes"] or not all(isinstance(c, str) for c in data["classes"]):
        raise ArtifactError(f"{where}: 'classes' must be a list of names with at least one.")
    if len(set(data["classes"])) != len(data["classes"]):
        raise ArtifactError(f"{where}: 'classes' has a name twice.")
    for key, allowed in (
        ("kind", tuple(known())),
        ("problem", ("classification", "multilabel", "regression")),
    ):
        if data[key] not in allowed:
            raise ArtifactError(f"{where}: '{key}' is '{data[key][:40]}'; allowed: {', '.join(allowed)}.")
    shape = data["input_shape"]
    if shape is not None and (wanted := modality(data["kind"]).shape_problem(shape)):
        raise ArtifactError(f"{where}: 'input_shape' must be {wanted}, found {str(shape)[:80]}.")
    words = data.get("descriptions", [])
    if not isinstance(words, list) or not all(isinstance(text, str) and len(text) <= LONGEST_TEXT for text in words):
        raise ArtifactError(f"{where}: 'descriptions' must be a list of texts.")
    if words and len(words) != len(data["classes"]):
        raise ArtifactError(f"{where}: 'descriptions' has {len(words):,} texts for {len(data['classes']):,} classes.")
    return TargetInfo.from_json(data)


def _load_source(data: dict[str, Any], folder: Path) -> SourceModel:
    if data["loader"] is None:
        raise ArtifactError(
            f"The program in {folder} was made for '{data['name']}', a model that was given in Python; "
            "pass it as from_pretrained(…, source=MODEL)."
        )
    where = f"source of {folder / JSON_FILE}"
    try:
        loader = find("reprogram.sources", data["loader"], SourceModel)
        if not loader.named_in_programs:
            raise ArtifactError(f"source '{data['loader']}' is never loaded by name; pass it as source=MODEL")
        if isinstance(labels := data["options"].get("labels"), str) and labels != "imagenet":
            raise ArtifactError(f"source.labels={labels} names a file of this machine; pass the source as source=MODEL")
        return loader(**check_arguments(loader, data["options"], where))
    except ReprogramError as error:
        raise ArtifactError(f"The source of the program in {folder} cannot be loaded: {_one_line(error)}.") from error
    except Exception as error:  # a stranger's options reach the loader
        raise ArtifactError(
            f"The source '{data['name']}' of the program in {folder} cannot be loaded: {_one_line(error)}."
        ) from error


def _check_fingerprint(source: SourceModel, data: dict[str, Any], folder: Path) -> None:
    found = source.fingerprint()
    earlier = source.weights_fingerprint() if source.settings() else found  # all that earlier versions looked at
    if data["fingerprint"] not in (found, earlier):
        raise ArtifactError(
            f"The program in {folder} belongs to source '{data['name']}' with fingerprint "
            f"{data['fingerprint'][:12]}…, but '{source.name}' has {found[:12]}…."
        )


def _method(data: dict[str, Any], package: str, base: type, where: str) -> Any:
    try:
        method = find(package, data["name"], base)
        return method(**check_arguments(method, data["config"], where))
    except ReprogramError as error:
        raise ArtifactError(f"The {where} cannot be used: {_one_line(error)}.") from error
    except Exception as error:  # __post_init__ of any method
        raise ArtifactError(f"The {where} cannot be used: {_one_line(error)}.") from error


def _check_plan(build: Callable[[], ReprogrammedModel], tensors: dict[str, Tensor], folder: Path) -> None:
    """Refuse a description that orders far more memory than its file holds, before the memory is asked for."""
    import torch

    try:
        with torch.device("meta"):
            model = build()
    except Exception:  # a method that needs real numbers while it is built; build() says in words what else is wrong
        return
    planned = sum(t.numel() * t.element_size() for part in (model.input, model.output) for t in _state(part))
    held = sum(t.numel() * t.element_size() for t in tensors.values())
    if planned > 2 * held + SLACK:
        raise ArtifactError(
            f"The program in {folder} describes {planned:,} bytes of tensors, but its file has {held:,}."
        )


def _state(part: Method) -> list[Tensor]:
    return list(part.state_dict().values())


def _read_tensors(path: Path, stated: dict[str, Any]) -> dict[str, Tensor]:
    from safetensors.torch import load

    data = read_bytes(path, LARGEST_TENSORS)
    if len(data) != stated["bytes"] or hashlib.sha256(data).hexdigest() != stated["sha256"]:
        raise ArtifactError(f"{path} is damaged, or belongs to another {JSON_FILE}: its digest differs.")
    try:
        return load(data)
    except Exception as error:  # SafetensorError, and what torch raises for a header that lies
        raise ArtifactError(f"{path} is not a safetensors file: {_one_line(error)}.") from error


def _one_line(error: BaseException, longest: int = 300) -> str:
    """An error's text on one line without its full stop, never longer than a sentence is, safe to show on a terminal."""
    text = " ".join(str(error).split()) or type(error).__name__
    text = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
    return (text if len(text) <= longest else text[: longest - 1] + "…").rstrip(".")
