"""The v2 server of the tests in a process of its own, so that it can be killed: ``v2_server.py PORT LOG SECONDS``.

Every image that is answered is a line of LOG (its key, on disk before the answer leaves), which outlives the process.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from fake_server import FakeServer

from reprogram.ledger import content_key

port, log, seconds = int(sys.argv[1]), sys.argv[2], float(sys.argv[3])
handle, lock = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), threading.Lock()


def logged(server: FakeServer, images: np.ndarray) -> Any:
    time.sleep(seconds)
    lines = "".join(content_key(image) + "\n" for image in images)
    with lock:
        os.write(handle, lines.encode())
        os.fsync(handle)


with FakeServer(logged, port=port):
    print("ready", flush=True)
    threading.Event().wait()
