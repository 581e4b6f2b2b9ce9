"""Writes ``tests/slow.txt``, the tests that ``pytest -m "not slow"`` leaves out, from measured durations.

    pytest --durations=0 | tee durations.log
    python benchmarks/slow_tests.py durations.log --seconds 1

All cases of a test count together. On a busy machine every test takes longer: raise ``--seconds`` by as much.
"""

from __future__ import annotations

import argparse
import re
from collections import defaultdict
from pathlib import Path

LIST = Path(__file__).parents[1] / "tests" / "slow.txt"
LINE = re.compile(r"\s*([\d.]+)s (?:call|setup|teardown)\s+(\S+?::[^\[\s]+)")
NEVER = ("tests/test_house.py",)  # the rules of the house are checked every time


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("log", type=Path)
    parser.add_argument("--seconds", type=float, default=1.0, help="a test that takes longer is slow")
    args = parser.parse_args()
    seconds: dict[str, float] = defaultdict(float)
    for line in args.log.read_text(errors="replace").splitlines():
        if found := LINE.match(line):
            seconds[found[2]] += float(found[1])
    slow = sorted(name for name, took in seconds.items() if took > args.seconds and not name.startswith(NEVER))
    LIST.write_text("".join(f"{name}\n" for name in slow))
    print(f"{len(slow)} tests are slow; they take {sum(seconds[name] for name in slow):.0f} s of {sum(seconds.values()):.0f} s")


if __name__ == "__main__":
    main()
