"""How to get the same figures again: command, versions, configuration."""

from __future__ import annotations

import platform
import shlex
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from markupsafe import Markup

from reprogram import __version__
from reprogram.hooks import Run
from reprogram.modalities import known, modality
from reprogram.redact import redact
from reprogram.report import blocks

PACKAGES = ("torch", "transformers", "scikit-learn", "numpy")  # and those that modalities name


def reproduce(run: Run, data: Mapping[str, Any]) -> list[Markup]:
    """Blocks of the section; ``run.config`` is the resolved configuration."""
    import yaml

    config = {key: value for key, value in run.config.items() if key != "run_dir"}
    text = yaml.safe_dump(config, sort_keys=False, allow_unicode=True) if config else ""
    return [
        blocks.code(command()),
        blocks.facts(versions() | {"seed": str(run.seed)}),
        blocks.note(f"Source fingerprint {data['source']['fingerprint']}"),
        blocks.details("the whole configuration (config.yaml)", blocks.code(text)) if text else Markup(""),
    ]


def command() -> str:
    """What was typed, with the overrides that Hydra applied to this very run of a sweep."""
    from hydra.core.hydra_config import HydraConfig

    if HydraConfig.initialized():
        overrides = [str(o) for o in HydraConfig.get().overrides.task]
        return redact(shlex.join(["python", "train.py", *(o for o in overrides if not o.startswith("run_dir="))]))
    return redact(shlex.join(["python", *sys.argv]))


def versions() -> dict[str, str]:
    """This project, Python and the libraries that figures depend on."""
    found = {"reprogram": __version__, "Python": platform.python_version()}
    for name in (*PACKAGES, *(library for kind in known() for library in modality(kind).libraries)):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
