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
MOST_LINES_OF_A_FILE = 400
LONG = {  # (file, function): why it may be longer or take more
    ("reprogram/result.py", "add_check"): "one parameter for each promised key of a row",
    ("reprogram/estimator.py", "__init__"): "scikit-learn wants each hyper-parameter as an argument",
    ("reprogram/tasks/wash.py", "describe"): "what is measured, each under its own name",
    ("reprogram/targets/arrays.py", "from_arrays"): "options of a target, given one by one in notebooks",
    ("reprogram/targets/huggingface.py", "huggingface"): "options of a target, as conf/target/huggingface.yaml has them",
    ("reprogram/robustness/evaluation.py", "evaluate"): "the one call of the public interface; all but four are keywords",
    ("reprogram/robustness/unfrozen.py", "learn"): "one training loop for every way of repair and strengthening",
    ("reprogram/ledger/ledger.py", "__init__"): "what a ledger is made of; every argument but two has a default",
    ("molecules/from_python.py", "design"): "the one call of the public interface; all but three are keywords",
    ("reprogram/sources/module.py", "__init__"): "options of a source, given one by one in notebooks",
    ("reprogram/sources/_asked.py", "__init__"): "options of a source, as conf/source/remote.yaml has them",
    ("reprogram/sources/remote.py", "__init__"): "options of a source, as conf/source/remote.yaml has them",
    ("reprogram/selection/bias.py", "corrected"): "the quantities of the published formula, each under its own name",
}

CHECKS_OF_BATCHES = {  # file: why it may ask a batch what it is
    "reprogram/model.py": "one string instead of a list of strings is a mistake of the user",
    "reprogram/interfaces/methods.py": "the interface of inputs is below modalities",
    "reprogram/sources/text.py": "what it reads itself: strings, or embeddings of them",
}

CHEMISTRY = re.compile(r"\b(smiles|selfies|rdkit|molecul\w*|sdf)\b", re.IGNORECASE)
CHEMISTRY_MAY_STAND = {  # file: why it names what belongs to molecules/
    "reprogram/older_programs.py": "what an option of version 0.1.0 was called",
    "reprogram/registry.py": "the example in its docstring",
    "reprogram/prediction/formats.py": "the example in its docstring",
    "reprogram/inputs/token_map.py": "the default of the published method",
    "reprogram/inputs/dense_token_map.py": "the default of the published method",
    "reprogram/inputs/soft_prompt.py": "the default of the published method",
}

SAME_NAME = {  # one name for one thing that two rooms see: classes that may share it
    "Text": "a kind of inputs, and the input transformation that reads it as it stands",
    "History": "what one training, or one search, has measured so far",
    "Run": "one run of a command, and one run of a search",
}

# Decisions by the kind of inputs, and by what a batch is made of, belong to reprogram/modalities.
KINDS = re.compile(
    r"""kind\s*(==|!=)\s*["'](image|text|sequence|series|molecule)["']"""
    r"""|["'](image|text|sequence|series|molecule)["']\s*(==|!=)\s*[\w.]*kind"""
    r"""|kind\s+(not\s+)?in\s*[(\[{]\s*["'](image|text|sequence|series|molecule)["']"""
)
BATCHES = {"batch", "batches", "view", "views", "source_input", "source_inputs"}

# Flags, notes and reasons are for people: programs read codes and fields.
SENTENCES = r"(?:\w+\.)*(?:flags?|notes?|reasons?|verdict|sentences?|threat)(?:\.text)?"
PARSED = re.compile(
    rf"""\b{SENTENCES}\.(?:startswith|endswith|removeprefix|removesuffix|split|partition|find|index)\("""
    rf"""|["'][^"']*["']\s+(?:not\s+)?in\s+{SENTENCES}\s*(?:$|[:)\]]|and\b|or\b)"""
    rf"""|\bre\.\w+\([^)]*,\s*{SENTENCES}\)"""
)

INSTEAD = {  # of a phrase (regular expression, any case): what to write
    r"stands? behind a wall|the wall higher": "black-box (query-only) model",
    r"can only be asked|is only asked|only ask(s|ed)? the model": "black-box (query-only) model",
    r"\bthe dearer\b|\bfaces? every\b|\bface what is left\b": "the more expensive; is run on; still classified correctly",
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
    r"(?<![/.,\d])\b1 (rows|images|files|strings|examples|queries|labels|pictures)\b": "see reprogram.plain.counted",
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


@pytest.mark.parametrize(
    ("rule", "line"),
    [
        (KINDS, 'if spec.kind == "image":'),
        (KINDS, 'if "text" != target.info.kind:'),
        (KINDS, 'x = 1 if kind not in ("image", "series") else 2'),
        (PARSED, 'if flag.startswith("zero gradients"):'),
        (PARSED, 'if " up to " in row.threat:'),
        (PARSED, 'name = self.reason.removeprefix("_Unscored: ")'),
        (PARSED, 'if "masked" in flag.text and wide:'),
    ],
)
def test_the_rules_find_what_they_are_for(rule: re.Pattern[str], line: str) -> None:
    assert rule.search(line)


def test_kinds_of_inputs_are_decided_in_one_room() -> None:
    found = [
        f"{named(file)}:{number}: {line.strip()}"
        for file in TOOLKIT
        if "modalities" not in file.parts
        for number, line in enumerate(file.read_text().splitlines(), 1)
        if KINDS.search(line)
    ]
    assert not found, "ask modality(kind) instead:\n" + "\n".join(found)


def test_the_toolkit_knows_nothing_of_chemistry() -> None:
    found = [
        f"{named(file)}:{number}: {line.strip()}"
        for file in TOOLKIT
        if named(file) not in CHEMISTRY_MAY_STAND
        for number, line in enumerate(file.read_text().splitlines(), 1)
        if CHEMISTRY.search(line)
    ]
    assert not found, "a modality brings it (tokenizations, table_files, writers, libraries):\n" + "\n".join(found)


def test_batches_are_taken_apart_in_one_room() -> None:
    found = []
    for file in TOOLKIT:
        if "modalities" in file.parts:
            continue
        for node in ast.walk(parsed(file)):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "isinstance":
                what = node.args[0]
                name = what.id if isinstance(what, ast.Name) else what.attr if isinstance(what, ast.Attribute) else ""
                if name in BATCHES:
                    found.append(f"{named(file)}:{node.lineno}: {ast.unparse(node)}")
    assert not [f for f in found if not f.startswith(tuple(CHECKS_OF_BATCHES))], (
        "use reprogram.modalities.batches:\n" + "\n".join(found)
    )


def test_functions_are_short_or_say_why_not() -> None:
    found = {}
    for file, node in functions():
        lines = (node.end_lineno or node.lineno) - node.lineno + 1
        if lines > MOST_LINES or parameters(node) > MOST_PARAMETERS:
            found[named(file), node.name] = f"{lines} lines, {parameters(node)} parameters"
    assert not {k: v for k, v in found.items() if k not in LONG}
    gone = [key for key in LONG if key not in found and (ROOT / key[0]).exists()]
    assert not gone, f"no longer needed in LONG: {gone}"


def test_files_are_read_in_one_sitting() -> None:
    files = [*CODE, *sorted((ROOT / "benchmarks").rglob("*.py"))]
    counts = {named(file): len(file.read_text().splitlines()) for file in files}
    assert not {file: lines for file, lines in counts.items() if lines > MOST_LINES_OF_A_FILE}


def test_slow_tests_exist() -> None:
    for line in (ROOT / "tests" / "slow.txt").read_text().split():
        file, _, name = line.partition("::")
        assert f"def {name.rpartition('::')[2]}(" in (ROOT / file).read_text(), f"{line}: run benchmarks/slow_tests.py"


def test_no_sentence_is_parsed_back_as_data() -> None:
    found = [
        f"{named(file)}:{number}: {line.strip()}"
        for file in CODE
        for number, line in enumerate(file.read_text().splitlines(), 1)
        if PARSED.search(line)
    ]
    assert not found, "give it a code or a field:\n" + "\n".join(found)


def test_a_class_name_means_one_thing() -> None:
    places = defaultdict(set)
    for file in CODE:
        for node in ast.walk(parsed(file)):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].add(named(file))
    several = {name: sorted(files) for name, files in places.items() if len(files) > 1 and name not in SAME_NAME}
    assert not several


def test_public_objects_are_documented() -> None:
    """Methods too: where a base class documents a method, its subclasses need not (ruff sees single classes only)."""
    known, bare = set(), []
    for file in CODE:
        for owner in ast.walk(parsed(file)):
            if not isinstance(owner, ast.ClassDef):
                continue
            for node in owner.body:
                if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
                    if ast.get_docstring(node):
                        known.add(node.name)
                    elif not owner.name.startswith("_"):
                        bare.append((node.name, f"{named(file)}:{node.lineno} {owner.name}.{node.name}"))
    assert not [place for name, place in bare if name not in known]


@cache
def texts() -> list[tuple[str, str]]:
    """(place, text) of what people read: pages, option files, docstrings and sentences of the code."""
    found = []
    for file in PAGES + OPTIONS:
        for number, line in enumerate(file.read_text().splitlines(), 1):
            found.append((f"{named(file)}:{number}", line))
    for file in CODE:
        for node in ast.walk(parsed(file)):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
                found.append((f"{named(file)}:{node.lineno}", " ".join(node.value.split())))
    return found


@pytest.mark.parametrize("phrase", INSTEAD)
def test_plain_words(phrase: str) -> None:
    found = [f"{place}: {text.strip()[:160]}" for place, text in texts() if re.search(phrase, text, re.IGNORECASE)]
    assert not found, f"write: {INSTEAD[phrase]}\n" + "\n".join(found)
