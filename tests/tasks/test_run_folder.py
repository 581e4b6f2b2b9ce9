"""A run's folder: a resumed run is the same run, one process at a time is in it, and no password is in any file."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from reprogram import cli
from reprogram.errors import ArtifactError, ConfigError
from reprogram.hooks import Run
from reprogram.locks import NAME, holding
from reprogram.redact import HIDDEN, conceal, redact, reveal
from reprogram.result import Result
from reprogram.run_folder import claimed, digest, recipe
from reprogram.training import checkpoint

ROOT = Path(__file__).parents[2]
_spec = importlib.util.spec_from_file_location("billing", ROOT / "tests" / "ledger" / "faulty_server.py")
assert _spec and _spec.loader
billing: Any = importlib.util.module_from_spec(_spec)
sys.modules["billing"] = billing
_spec.loader.exec_module(billing)


# Resume ---------------------------------------------------------------------------------------------------------------


def program(folder: Path) -> dict[str, Any]:
    result = json.loads((folder / "result.json").read_text())
    return {key: result[key] for key in ("metrics", "program", "target")}


def test_resume_with_another_configuration_is_refused_and_names_the_keys(typed: Any, tiny: Any, tmp_path: Path) -> None:
    assert typed(*tiny, "target.shots=1")[0] == 0
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    code, said = typed(*tiny, "target.shots=4", "seed=3", "resume=true")
    assert code == 2 and "Traceback" not in said
    assert "resume=true continues the same run, but seed was 0 and is 3" in said
    assert "target.shots was 1 and is 4; give the options that run/config.yaml holds, or another run_dir." in said
    assert {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()} == before
    was = program(tmp_path / "run")
    code, said = typed(*tiny, "target.shots=1", "resume=true", "debug=true", "name=other", "logger=none")
    assert code == 0 and program(tmp_path / "run") == was, "what changes no result may change"


@pytest.mark.parametrize(
    ("task", "more"),
    [("inspect", ["seed=1"]), ("evaluate", ["target.test_size=3"]), ("wash", ["seed=1"]), ("design", ["seed=1"])],
)
def test_every_task_compares_before_it_does_anything(task: str, more: list[str], typed: Any, tmp_path: Path) -> None:
    """The folder holds the configuration of a run that was killed at once."""
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    from reprogram.configuration import config_folder

    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        config = compose("config", [f"task={task}", "target=digits", "run_dir=run"])
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text(OmegaConf.to_yaml(config, resolve=True))
    code, said = typed(f"task={task}", "target=digits", "resume=true", *more)
    key = more[0].partition("=")[0]
    assert code == 2 and f"resume=true continues the same run, but {key} was " in said


def test_a_checkpoint_of_another_configuration_is_never_taken_up(tmp_path: Path) -> None:
    """A is killed, B starts in the same folder and is killed before its first checkpoint; B resumed is not A."""
    a = Run(tmp_path, 0, Result("reprogram", 0), config={"seed": 0, "target": {"shots": 1}})
    b = Run(tmp_path, 0, Result("reprogram", 0), config={"seed": 0, "target": {"shots": 20}})
    checkpoint.save(tmp_path, {"epochs_done": 7}, a.recipe)
    assert checkpoint.load(tmp_path, b.recipe) is None
    found = checkpoint.load(tmp_path, a.recipe)
    assert found is not None and found["epochs_done"] == 7


@pytest.mark.parametrize("content", [[1, 2], 7, {"recipe": "", "program": 3}, {"recipe": ""}])
def test_a_checkpoint_of_another_structure_is_one_sentence(content: Any, tmp_path: Path) -> None:
    torch.save(content, tmp_path / checkpoint.NAME)
    with pytest.raises(ArtifactError, match=r"cannot be read; remove it to start over"), checkpoint.understood(tmp_path):
        state = checkpoint.load(tmp_path)
        assert state is not None
        state["epochs_done"].items()


def test_recipe_is_everything_that_changes_the_result() -> None:
    config = {"seed": 0, "run_dir": "a", "budget": {"queries": 5}, "source": {"url": "u", "model": "m", "timeout": 3}}
    config |= {"training": {"epochs": 2, "checkpoint_seconds": 5.0}, "target": {"root": None, "sizes": [1, 2]}}
    assert set(recipe(config)) == {"seed", "source.model", "training.epochs", "target.root", "target.sizes"}
    assert digest(config) == digest(config | {"run_dir": "b", "debug": True})
    assert digest(config) != digest(config | {"budget": {"queries": 6}}), "a larger budget trains anew, from paid answers"


LAUGHS = "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12))


@pytest.mark.parametrize("content", ["[1, 2]", "{", "a: &a [*a, *a]\n", "\0\0", "- " * 5000, LAUGHS])
def test_damaged_configuration_is_one_sentence(content: str, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(content)
    with pytest.raises(ConfigError, match=r"config\.yaml|same run"), claimed(tmp_path, "seed: 0\n", resume=True):
        pass


# Locks ----------------------------------------------------------------------------------------------------------------

HOLDER = """
import sys, time
from pathlib import Path
from reprogram.locks import holding
with holding(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_second_process_is_told_and_a_killed_owner_frees_the_folder(typed: Any, tiny: Any, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", HOLDER, str(tmp_path / "run")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        code, said = typed(*tiny)
        assert (code, said) == (
            2,
            "error: run_dir=run is in use by another run; wait for it, or choose another folder.\n",
        )
        assert [path.name for path in (tmp_path / "run").iterdir()] == [NAME], "nothing was written"
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    with holding(tmp_path / "run"):
        pass


def test_lock_works_without_the_system_calls_of_unix(monkeypatch: Any, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "fcntl", None)
    monkeypatch.setitem(sys.modules, "msvcrt", None)
    with holding(tmp_path):
        pass


def test_room_is_kept_free_without_the_system_calls_of_linux(monkeypatch: Any, tmp_path: Path) -> None:
    from reprogram.journal import BALLAST, Ballast

    monkeypatch.delattr(os, "posix_fallocate", raising=False)
    ballast = Ballast(tmp_path / "j")
    ballast.hold()
    assert ballast.path.stat().st_size == BALLAST
    ballast.drop()
    assert list(tmp_path.iterdir()) == []


# Secrets --------------------------------------------------------------------------------------------------------------

PASSWORD, TOKEN, QUERY = "pa55-w0rd%40x", "t0ken-of-the-env", "k3y-in-the-query"
SECRETS = (PASSWORD, "pa55-w0rd@x", TOKEN, QUERY)


def found_in(folder: Path) -> list[str]:
    """Files below ``folder`` that hold a secret."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    return [str(path) for path in files if any(secret.encode() in path.read_bytes() for secret in SECRETS)]


def options(server: Any) -> list[str]:
    address = server.url.replace("http://", f"http://doctor:{PASSWORD}@") + f"?api_key={QUERY}"
    source = ["source=remote", f'source.url="{address}"', "source.model=tiny", "source.labels=[a,b,c,d,e]"]
    target = ["target=digits", "target.shots=2", "target.test_size=20"]
    return [*source, "source.token_env=SERVICE_TOKEN", "source.header=X-Token", "source.scheme=''", *target,
            "input=none", "input.size=32", "output=ridge_taps", "task.baselines=[]", "source.pause=0.01"]  # fmt: skip


def test_no_file_and_no_message_of_a_run_holds_a_secret(
    typed: Any, tmp_path: Path, monkeypatch: Any, caplog: Any, capsys: Any
) -> None:
    monkeypatch.setenv("SERVICE_TOKEN", TOKEN)
    caplog.set_level(logging.DEBUG)
    with billing.Server() as server:
        code, said = typed(*options(server))
        assert code == 0, said
        sent = server.headers[0]
        assert sent["X-Token"] == TOKEN and sent["Authorization"].startswith("Basic "), "but the service gets them"
    assert found_in(tmp_path) == []
    config = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert config["source"]["url"] == f"{server.url.replace('http://', f'http://{HIDDEN}@')}?api_key={HIDDEN}"
    assert HIDDEN in (tmp_path / "run" / "report.html").read_text()
    printed = said + capsys.readouterr().out + caplog.text
    assert not any(secret in printed for secret in SECRETS)


def echo(handler: Any, x: Any) -> bool:
    """A service that repeats what it was sent, in its error."""
    handler.reply(418, json.dumps(dict(handler.headers)).encode())
    return True


@pytest.mark.parametrize("debug", ["false", "true"])
def test_no_error_holds_a_secret(debug: str, typed: Any, tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.setenv("SERVICE_TOKEN", TOKEN)
    with billing.Server(echo) as server:
        if debug == "true":
            with pytest.raises(Exception) as error:
                monkeypatch.setattr(sys, "argv", ["train.py", *options(server), "run_dir=run", "debug=true"])
                cli.main()
            said = str(error.value) + capsys.readouterr().err
        else:
            code, said = typed(*options(server))
            assert code == 2
    assert "status 418" in said and not any(secret in said for secret in SECRETS)
    assert found_in(tmp_path) == []


def test_hydras_own_record_of_a_sweep_holds_no_secret(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("SERVICE_TOKEN", TOKEN)
    with billing.Server() as server:
        sweep = ["seed=0,1", f"hydra.sweep.dir={tmp_path / 'sweep'}"]
        monkeypatch.setattr(sys, "argv", ["train.py", "--multirun", *options(server), *sweep])
        monkeypatch.chdir(tmp_path)
        with contextlib.suppress(SystemExit):
            cli.main()
    assert (tmp_path / "sweep" / "multirun.yaml").exists() and (tmp_path / "sweep" / "1" / "result.json").exists()
    assert found_in(tmp_path) == []


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("https://u:p@h:8/v2", "https://***@h:8/v2"),
        ("https://u@h", "https://***@h"),
        ("http://h/a?token=abc&model=m", "http://h/a?token=***&model=***"),
        ("http://h:8080", "http://h:8080"),
        ("http://a:b@c@h/x", "http://***@h/x"),
    ],
)
def test_addresses_are_concealed_and_found_again(address: str, shown: str) -> None:
    assert conceal(address) == shown and reveal(shown) == address and conceal(shown) == shown


def test_two_passwords_at_one_host_are_told_apart() -> None:
    one, two = conceal("http://u:first-one@twice"), conceal("http://u:second-one@twice")
    assert one != two and reveal(one).endswith("first-one@twice") and reveal(two).endswith("second-one@twice")


def test_redact_finds_what_nobody_concealed() -> None:
    text = "see https://me:hunter2@x.org/a?access_token=zzz&page=2 and https://x.org/forum?id=7, mail me@x.org"
    assert redact(text) == "see https://***@x.org/a?access_token=***&page=2 and https://x.org/forum?id=7, mail me@x.org"
    assert redact("hf://datasets/a/b@main") == "hf://datasets/a/b@main"


def test_no_lock_is_left_when_a_run_fails(typed: Any, tiny: Any, tmp_path: Path) -> None:
    assert typed(*tiny, "device=abacus")[0] == 2
    started = time.monotonic()
    assert typed(*tiny)[0] == 0 and time.monotonic() - started < 60
