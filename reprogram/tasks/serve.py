"""A saved program behind the Open Inference Protocol, on this machine or as a folder for another one."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from reprogram.errors import ConfigError
from reprogram.evaluation.new_data import fitted
from reprogram.progress import console
from reprogram.ranges import NotEmpty, NotNegative, Range
from reprogram.tasks._run import choose_device, chosen_by_user
from reprogram.typecheck import signature

Port = Annotated[int, Range(1, 65_533)]


def _options() -> dict[str, Any]:
    from reprogram.serving.wishes import Limits, Wishes

    own = {
        "program": NotEmpty,
        "port": Port,
        "export": NotEmpty | None,
        "task.model": NotEmpty | None,
        "task.also": list[str],
        "task.host": NotEmpty,
        "task.batch": Annotated[int, Range(1, 1024)],
        "task.wait": NotNegative,
        "task.token_env": NotEmpty | None,
        "task.audit": NotEmpty | None,
        "task.page": bool,
        "task.spare": bool,
        "task.image": NotEmpty,
    }
    wishes = {f"task.{name}": hint for name, hint in signature(Wishes).hints.items()}
    return own | wishes | {f"limits.{name}": hint for name, hint in signature(Limits).hints.items()}


OPTIONS: dict[str, Any] = _options()
MOST_EXAMPLES = 600  # that a detector is calibrated on


def run(config: DictConfig) -> None:
    """Write the folder, then serve it until a signal comes."""
    from reprogram.serving.export import names, write_container, write_repository

    if not config.get("program") or config.program == "auto":
        raise ConfigError("task=serve needs a kept program: program=RUN_FOLDER/program, or a Hub id.")
    _needed()
    programs = names([str(config.program), *map(str, config.task.also)], config.task.model)
    serving = _serving(config)
    detectors = _detectors(config, programs)
    if config.export is not None:
        folder = write_repository(Path(config.export), programs, serving, detectors, copy=True)
        write_container(folder, serving, config.task.image, next(iter(programs)))
        console.print(
            f"{folder} holds {', '.join(programs)}; serve it with: python -m reprogram.serving {folder}", markup=False
        )
        return
    folder = write_repository(Path(config.run_dir) / "models", programs, serving, detectors)
    names_of = ", ".join(f"http://{config.task.host}:{config.port}/v2/models/{name}" for name in programs)
    console.print(f"{names_of} from {folder}; Ctrl-C ends it.", markup=False)
    become(str(folder))


def become(folder: str) -> None:
    """This process serves from here on; whatever it has loaded until now is gone."""
    root = str(Path(__file__).parents[2])
    paths = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-m", "reprogram.serving", folder]
    os.execve(sys.executable, command, os.environ | {"PYTHONPATH": paths})


def _serving(config: DictConfig) -> Any:
    from reprogram.serving.export import Serving
    from reprogram.serving.wishes import Wishes

    task: Any = OmegaConf.to_container(config.task, resolve=True)
    defaults = {name: task[name] for name in signature(Wishes).hints}
    options = {"defaults": defaults, "limits": OmegaConf.to_container(config.limits), "device": choose_device(config.device)}
    options |= {name: task[name] for name in ("token_env", "audit") if task[name] is not None}
    if config.export is None and task["audit"] is not None:
        options["audit"] = str(Path(task["audit"]).absolute())
    guard = {"token_env": task["token_env"], "page": task["page"], "spare": task["spare"]}
    return Serving(task["host"], config.port, task["batch"], task["wait"], options, guard)


def _detectors(config: DictConfig, programs: dict[str, str]) -> dict[str, Any]:
    """A detector for the program whose labelled examples ``target=`` names, the first one: calibrated on those held out."""
    from reprogram.serving.program import ServedProgram

    if not chosen_by_user("target"):
        if config.task.detect:
            raise ConfigError("task.detect=true needs the labelled examples: add target=… as the program was made with.")
        return {}
    from reprogram.serving.detector import Detector

    name, place = next(iter(programs.items()))
    model = ServedProgram.load(place, device=choose_device(config.device)).model
    target = fitted(instantiate(config.target), model.target, "test")
    rows = np.random.default_rng(config.seed).permutation(len(target.test))[:MOST_EXAMPLES]
    contents = [item if isinstance(item, str) else item.numpy() for item in target.test.batch(rows)]
    return {name: Detector.calibrated(model, contents)}


def _needed() -> None:
    from importlib.util import find_spec

    if find_spec("mlserver") is None:
        raise ConfigError("task=serve needs MLServer: pip install 'reprogram[serving]'.")
