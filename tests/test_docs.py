"""What the pages show works: Python examples run, commands compose, links lead somewhere."""

import ast
import re
import shlex
import tomllib
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from reprogram.cli import check_choices, split_sources, with_open_keys
from reprogram.configuration import check, config_folder, groups

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
TRAINED_PAGES = ("python.md", "scikit-learn.md")  # run from top to bottom; they need nothing but what they show
FEW = {"molecule-search.md": ("budget=200", "budget=12"), "propose.md": ("", "")}


def blocks(page, languages):
    """Fenced blocks; an unmarked one has the language ``""``."""
    found = re.findall(r"^```(\w*)\n(.*?)^```", page.read_text(), re.S | re.M)
    return [text for language, text in found if language in languages]


def lines():
    """(page, words) of every shell line in a fence, marked or not."""
    for page in PAGES:
        for line in "\n".join(blocks(page, ("bash", "console", "sh", ""))).replace("\\\n", " ").splitlines():
            line = line.removeprefix("$ ").rstrip("&")
            for part in line.split("&&") if "python" in line or "pip" in line else ():
                words = shlex.split(part, comments=True)
                while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):  # environment variables
                    words = words[1:]
                if words and words[0] in ("python", "pip"):
                    yield page, words


def commands():
    for page, words in lines():
        refused = "target=mnits" in words  # shown with its error
        if words[:2] == ["python", "train.py"] and not {"--help", "-h"} & set(words) and not refused:
            yield pytest.param(words[2:], id=f"{page.name}: {' '.join(words[2:])}")


def words_of(arguments):
    """What the command line makes of the words of a page; ``…`` stands for a value, or for more options."""
    words = [word.replace("…", "VALUE") for word in arguments if word != "…"]
    sweep = "--multirun" in words or "-m" in words
    words = [a for a in words if not a.startswith("-") and a != "job"]
    if sweep:
        words = [re.sub(r"=([^\[,]*),.*", r"=\1", a) for a in words]
    words = with_open_keys(split_sources(words))
    if "target=csv" in words:
        words += [f"target.{k}=VALUE" for k in ("path", "input_column", "label_column") if f"target.{k}=" not in " ".join(words)]
    return words


def composed(words):
    check_choices(words)
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        return compose("config", overrides=["run_dir=.", *words])


@pytest.mark.parametrize("arguments", commands())
def test_every_command_composes_and_passes_the_checks(arguments):
    config = composed(words_of(arguments))
    check(config)
    assert OmegaConf.select(config, "task._target_")


def test_other_commands_name_what_there_is():
    """Extras of pip and scripts of ``benchmarks`` exist."""
    for page, words in lines():
        for extra in re.findall(r"\[([\w,]+)\]", " ".join(words)) if words[0] == "pip" else ():
            assert set(extra.split(",")) <= set(EXTRAS), f"{page.name}: {words}"
        if words[0] == "python" and words[1].endswith(".py"):
            assert (ROOT / words[1]).is_file(), f"{page.name}: {words}"


def shown_settings():
    """Every ``key=value`` between backticks whose first part is a group of the configuration."""
    for page in PAGES:
        prose = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.S | re.M)
        for code in re.findall(r"`([^`\n]+)`", prose):
            if re.fullmatch(rf"'?({'|'.join(groups())})[\w./]*=\S*'?", code) and not re.search(r"\||=[A-Z]\w+\(", code):
                yield page.name, code


def test_every_setting_in_the_text_exists_and_can_be_typed():
    """The key stands in a file of its group, and the value is one that a shell and Hydra can read."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    wrong = []
    for page, code in sorted(set(shown_settings())):
        try:
            (text,) = shlex.split(code)
            override = OverridesParser.create().parse_override(text.replace("…", "VALUE"))
        except Exception as error:
            wrong.append(f"{page}: `{code}`: {str(error).splitlines()[0]}")
            continue
        group, _, key = override.key_or_group.partition(".")
        leaf = key.split(".")[-1]
        files = "".join(f.read_text() for f in (config_folder() / group.split("/")[0]).rglob("*.yaml"))
        if leaf and not re.search(rf"\b{leaf}\b", files):
            wrong.append(f"{page}: `{code}`: no such option")
    assert not wrong, "\n".join(wrong)


SHORT = {  # what makes a page's command a matter of seconds, by what it asks for
    "target=digits": ["source=small_cnn", "source.size=16", "target.shots=2", "target.test_size=20", "training.epochs=1"],
    "task=design": ["budget=6", "parallel.backend=serial"],
}
LONG = ("source=huggingface", "source.model", "robustness", "dask", "mine.smi", "latent", "resume=true", "--multirun")
LONG += ("64", "input", "search=routes", "constraints.route", "stages=")


def short_commands():
    for found in commands():
        text = " ".join(found.values[0])
        for key, few in SHORT.items():
            if key in text and not any(word in text for word in LONG):
                yield pytest.param([*words_of(found.values[0]), *few, "auto.minutes=0.01", "auto.prompts=false"], id=found.id)


@pytest.mark.parametrize("arguments", short_commands())
def test_short_commands_run_to_the_end(arguments, typed, tmp_path):
    arguments = [a for a in arguments if not a.startswith(("run_dir", "resume"))]
    code, stderr = typed(*arguments, "device=cpu")
    assert code == 0, stderr
    assert (tmp_path / "run" / "result.json").exists()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    """Files, and the headings in them."""
    for target in re.findall(r"\]\(([^)\s]+)[^)]*\)", page.read_text()):
        if target.startswith(("http", "mailto:")):
            continue
        name, _, heading = target.partition("#")
        file = page.parent / name if name else page
        assert file.exists(), target
        if heading:
            titles = re.findall(r"^#+ (.*)$", file.read_text(), re.M)
            assert heading in {re.sub(r"[^\w\- ]", "", t.lower()).strip().replace(" ", "-") for t in titles}, target


def python_blocks():
    return [pytest.param(p, text, id=f"{p.name}-{i}") for p in PAGES for i, text in enumerate(blocks(p, ("python",)))]


@pytest.mark.parametrize(("page", "code"), python_blocks())
def test_python_compiles_and_what_it_imports_exists(page, code):
    for node in ast.walk(ast.parse(code, str(page))):
        if isinstance(node, ast.ImportFrom) and node.module:
            exec(compile(ast.Module([node], []), f"{page}: {ast.unparse(node)}", "exec"), {})


@pytest.mark.parametrize("page", [*TRAINED_PAGES, *FEW])
def test_short_python_pages_run_from_top_to_bottom(page):
    code = "\n".join(blocks(ROOT / "docs" / page, ("python",)))
    names = {}
    exec(compile(code.replace(*FEW.get(page, ("", ""))), f"docs/{page}", "exec"), names)
    if page == "python.md":
        assert names["accuracy"] > 0.9
