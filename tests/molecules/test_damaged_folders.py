"""A run folder that was damaged, or written by a stranger: a design run that goes on in it ends in one sentence, or well."""

import shutil

import pytest

RUN = ("task=design", "oracle=qed", "start=example", "search=stoned", "budget=8", "parallel.backend=serial")
DAMAGE = {
    "recipe.json": [b"", b"{", b"[]", b"3", b"null", b"\xff\xfe", b'{"seed": 0}'],
    "calls.jsonl": [
        b"", b"{}\n", b"[]\n", b"null\n", b"\xff\n", b'{"smiles": 3}\n', b'{"smiles":"C","score":"x"}\n',
        b'{"smiles":"C","score":1}\n', b'{"call":"a","smiles":"C","score":1.0,"parts":3}\n',
        b'{"call":1,"smiles":"CCO","score":0.5,"raw":[1],"parts":[1],"violations":{"a":"b"}}\n',
    ],
    "config.yaml": [b"{", b"\xff", b"[]", b""],
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGE)
def test_going_on_in_a_damaged_folder(typed, tmp_path, name):
    assert typed(*RUN)[0] == 0
    shutil.copytree(tmp_path / "run", tmp_path / "whole")
    for content in DAMAGE[name]:
        shutil.rmtree(tmp_path / "run")
        shutil.copytree(tmp_path / "whole", tmp_path / "run")
        (tmp_path / "run" / name).write_bytes(content)
        code, stderr = typed(*RUN, "resume=true")
        assert code in (0, 2) and "Traceback" not in stderr and "debug=true" not in stderr, (content, stderr)
        assert code == 0 or stderr.count("error: ") == 1, (content, stderr)
