"""A few odd command lines of the longer hunt: each ends well or in one sentence."""

import importlib.util
import sys
from pathlib import Path

FILE = Path(__file__).parents[2] / "benchmarks" / "fuzz_command_lines.py"


def test_odd_command_lines_end_in_one_sentence():
    spec = importlib.util.spec_from_file_location("fuzz_command_lines", FILE)
    module = importlib.util.module_from_spec(spec)
    sys.modules["fuzz_command_lines"] = module
    spec.loader.exec_module(module)
    found = module.fuzz(lines=30, first=1_000_000, run=0.2, seconds=60, show=False)
    assert found["found"] == {"fine": 30}, found
    assert found["run_to_the_end"] > 0


def test_a_sentence_of_the_last_net_is_a_failure():
    spec = importlib.util.spec_from_file_location("fuzz_judged", FILE)
    module = importlib.util.module_from_spec(spec)
    sys.modules["fuzz_judged"] = module
    spec.loader.exec_module(module)
    assert module.judged(2, "error: seed=-1 must be 0 or more.\n") == module.judged(0, "") == "fine"
    assert module.judged(1, "error: The run stopped unexpectedly in a.b (KeyError: 1); …, debug=true shows where.") == "net"
    assert module.judged(2, "error: x cannot be made: y; debug=true shows where.") == "net"
    assert module.judged(1, "Traceback (most recent call last):") == "traceback"
    assert module.judged(2, "") == module.judged(2, "error: a\nerror: b") == "no sentence"
