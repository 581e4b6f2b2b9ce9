"""``python -m reprogram.serving FOLDER``: the programs below FOLDER behind limits, a token and a page."""

from __future__ import annotations

import sys

if len(sys.argv) == 2:
    from reprogram.serving.front import main

    main(sys.argv[1])
elif len(sys.argv) == 3:  # as the front starts its engine
    from reprogram.serving.engine import main as engine

    engine(sys.argv[1], sys.argv[2])
else:
    raise SystemExit("usage: python -m reprogram.serving FOLDER")
