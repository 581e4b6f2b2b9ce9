"""Rules of the house that no reviewer should have to look for: read from the source text, nothing is imported."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TOOLKIT = sorted((ROOT / "reprogram").rglob("*.py"))
CODE = [*TOOLKIT, *sorted((ROOT / "molecules").rglob("*.py"))]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
OPTIONS = sorted((ROOT / "conf").rglob("*.yaml"))

MOST_LINES, MOST_PARAMETERS = 60, 7
LONG = {  # (file, function): why it may be longer or take more
    ("reprogram/result.py", "add_check"): "one parameter for each promised key of a row",
    ("reprogram/estimator.py", "__init__"): "scikit-learn wants each hyper-parameter as an argument",
    ("reprogram/tasks/wash.py", "describe"): "what is measured, each under its own name",
    ("reprogram/targets/arrays.py", "from_arrays"): "options of a target, given one by one in notebooks",
    ("reprogram/targets/huggingface.py", "huggingface"): "options of a target, as conf/target/huggingface.yaml has them",
    ("reprogram/robustness/evaluation.py", "evaluate"): "the one call of the public interface; all but four are keywords",
    ("reprogram/robustness/unfrozen.py", "learn"): "one training loop for every way of repair and strengthening",
    ("reprogram/ledger/ledger.py", "__init__"): "what a ledger is made of; every argument but two has a default",
    ("reprogram/sources/module.py", "__init__"): "options of a source, given one by one in notebooks",
    ("reprogram/sources/_asked.py", "__init__"): "options of a source, as conf/source/remote.yaml has them",
    ("reprogram/sources/remote.py", "__init__"): "options of a source, as conf/source/remote.yaml has them",
    ("reprogram/selection/bias.py", "corrected"): "the quantities of the published formula, each under its own name",
}

SAME_NAME = {  # classes of one name for one thing in two rooms
    "Text": "the kind of input, and the input transformation that reads it",
    "Clever": "",
}

DISPATCH = re.compile(
    r"""kind\s*(==|!=)\s*["'](image|text|sequence|series|molecule)["']|kind\s+(not\s+)?in\s*[(\[{]["'](image|text)"""
)
BATCHES = {"batch", "view", "views", "source_input", "source_inputs", "inputs", "images", "strings"}

PARSED = re.compile(
    r"(?:\b|_)(?:flags?|notes?|reasons?|verdict|sentence)(?:\.text)?\.(?:startswith|endswith|removeprefix|removesuffix|split|find)\("
    r"|[\"'][^\"']+[\"'] in (?:\w+\.)?(?:flags?|notes?|reasons?|verdict|sentence|threat)\b(?!\.)"
)

INSTEAD = {  # of a phrase (regular expression, any case): what to write
    r"stands? behind a wall|the wall higher": "black-box (query-only) model",
    r"can only be asked|is only asked|only ask(s|ed)? the model": "black-box (query-only) model",
    r"\bthe dearer\b|\bfaces? every\b|\bface what is left\b": "the more expensive; is run on; examples still classified correctly",
    r"inside (the|your) (training )?labels": "by cross-validation on the training labels",
    r"local stand-in": "distilled surrogate",
    r"\bsharpness\b": "inverse temperature",
    r"\b(is|are|be) told apart\b": "is reported separately",
    r"\bsays? so\b": "the report states it",
    r"\bhand(s|ed)? back\b": "returns",
    r"promise is empty": "cannot be relied on",
    r"to its bad side": "minus one standard deviation",
    r"chance syllables|for their relatives": "subword tokens; similar residues (BLOSUM62)",
    r"excited further": "a larger activation",
    r"the same ground carries": "the same package contains",
    r"commonest": "most frequent class",
    r"sets? the letters apart": "separates the letters with spaces",
    r"\b1 (rows|images|files|strings|examples|queries|labels|pictures)\b": "a counted noun, see reprogram.plain.counted",
}
ALLOWED_PHRASES = {  # (file, phrase): why
    ("tests", ""): "",
}


@cache
def parsed(file: Path) -> ast.Module:
    return ast.parse(file.read_text())


def named(file: Path) -> str:
    return file.relative_to(ROOT).as_posix()


def functions() -> Iterator[tuple[Path, ast.FunctionDef | ast.AsyncFunctionDef]]:
    for file in CODE:
        for node in ast.walk(parsed(file)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield file, node


def parameters(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    arguments = node.args
    every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    return sum(a.arg not in ("self", "cls") for a in every)
