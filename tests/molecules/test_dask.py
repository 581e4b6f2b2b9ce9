"""The same run on a real Dask cluster on loopback, one of its two workers killed in the middle."""

import os
import signal
import threading
import time

import pytest
from hydra import compose, initialize_config_dir

from molecules.tasks.design import run as design
from molecules.workers import Workers
from reprogram.cli import config_folder
from reprogram.errors import ConfigError

SLOW = '''
import os
import time
from molecules.oracles.base import Answer, Oracle


class Slow(Oracle):
    """Length of the SMILES; writes down what it is asked for."""

    name = "slow"

    def __init__(self, log):
        self.log = log

    def answers(self, smiles):
        for text in smiles:
            with open(self.log, "a") as file:
                file.write(f"{text} {os.getpid()}\\n")
            time.sleep(0.02)
        return [Answer(len(s) / 3) for s in smiles]
'''


def run(folder, log, *overrides):
    folder.mkdir()
    options = [
        "task=design", f"run_dir={folder}", "search=stoned", "budget=150", "start=smiles",
        "start.smiles=[CCO,c1ccccc1,CCN]", "+oracle._target_=slow_oracle.Slow", f"+oracle.log={log}", *overrides,
    ]  # fmt: skip
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        design(compose("config", options))
    return (folder / "molecules.csv").read_bytes()


def test_a_worker_killed_in_the_middle_changes_nothing(tmp_path, monkeypatch):
    from distributed import Client, LocalCluster

    (tmp_path / "slow_oracle.py").write_text(SLOW)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    alone = run(tmp_path / "alone", tmp_path / "alone.txt", "parallel.backend=serial")
    log = tmp_path / "asked.txt"
    log.touch()
    killed = []

    def kill(pid):
        while len(log.read_text().splitlines()) < 50:
            time.sleep(0.02)
        os.kill(pid, signal.SIGKILL)
        killed.append(len(log.read_text().splitlines()))

    with LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster:
        with Client(cluster) as client:
            pids = sorted(client.run(os.getpid).values())
        thread = threading.Thread(target=kill, args=(pids[0],), daemon=True)
        thread.start()
        spread = run(tmp_path / "spread", log, "parallel.backend=dask", f"parallel.address={cluster.scheduler_address}")
        thread.join(10)
    assert killed and 50 <= killed[0] < 150, "the worker was killed in mid-run"
    assert spread == alone
    asked = [line.split() for line in log.read_text().splitlines()]
    assert len({smiles for smiles, _ in asked}) == 150
    others = [smiles for smiles, pid in asked if int(pid) != pids[0]]
    assert len(others) == len(set(others)), "only what the killed worker held was asked again"


def test_a_scheduler_that_does_not_answer_is_said(monkeypatch):
    with pytest.raises(ConfigError, match=r"parallel\.address=nowhere"):
        Workers("dask", address="nowhere://x")(lambda items: items, ["a"])
