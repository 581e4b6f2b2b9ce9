"""Large blocks stay in the heap, where they are used again, instead of being mapped anew each time."""

import subprocess
import sys

import pytest

from reprogram.malloc_tuning import keep_freed_memory

SCRIPT = """
import ctypes, sys
import torch
from reprogram.malloc_tuning import keep_freed_memory

class Info(ctypes.Structure):  # struct mallinfo2 of malloc.h
    _fields_ = [(n, ctypes.c_size_t) for n in
                "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()]

libc = ctypes.CDLL(None)
if not hasattr(libc, "mallinfo2") or (sys.argv[1] == "keep" and not keep_freed_memory()):
    print(-1)
    raise SystemExit
libc.mallinfo2.restype = Info
before = libc.mallinfo2().hblkhd
held = torch.ones(48 << 20, dtype=torch.uint8)
print(libc.mallinfo2().hblkhd - before)
"""


def mapped(how: str) -> int:
    """Bytes that a tensor of 48 MB takes from the kernel block by block; -1 with another C library."""
    done = subprocess.run([sys.executable, "-c", SCRIPT, how], capture_output=True, text=True, check=True)
    return int(done.stdout)


def test_large_blocks_stay_in_the_heap():
    default, kept = mapped("default"), mapped("keep")
    assert (default, kept) == (-1, -1) or (default >= 48 << 20 and kept < 48 << 20)


@pytest.mark.parametrize("libc", ["", "musl"])
def test_other_libraries_are_left_alone(monkeypatch, libc):
    monkeypatch.setattr("platform.libc_ver", lambda: (libc, ""))
    assert keep_freed_memory() is False
