"""What the pages show works: Python examples run, commands compose, links lead somewhere."""

import re
import shlex
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from reprogram.configuration import check, config_folder

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page, language):
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(), re.S)


def commands():
    for page in PAGES:
        for line in "\n".join(blocks(page, "bash")).replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if words[:2] == ["python", "train.py"] and not {"--help", "-h"} & set(words):
                yield pytest.param(words[2:], id=f"{page.name}: {' '.join(words[2:])}")


@pytest.mark.parametrize("arguments", commands())
def test_every_command_composes_and_passes_the_checks(arguments):
    sweep = "--multirun" in arguments or "-m" in arguments
    overrides = [a for a in arguments if not a.startswith("-") and a != "job"]
    if sweep:
        overrides = [re.sub(r"=([^\[,]*),.*", r"=\1", a) for a in overrides]
    overrides = [re.sub(r"^source=\[([^,\]]*).*", r"source=\1", a) for a in overrides]  # several: the first
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        config = compose("config", overrides=["run_dir=.", *overrides])
    check(config)
    assert OmegaConf.select(config, "task._target_")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target


def test_the_python_page_runs_from_top_to_bottom():
    code = "\n".join(blocks(ROOT / "docs" / "python.md", "python"))
    names = {}
    exec(compile(code, "docs/python.md", "exec"), names)
    assert names["accuracy"] > 0.9
