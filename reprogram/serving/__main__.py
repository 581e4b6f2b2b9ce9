"""``python -m reprogram.serving FOLDER``: the programs below FOLDER behind limits, a token and a page."""

from __future__ import annotations

import sys

if len(sys.argv) == 2:
    from reprogram.serving.front import main

    main(sys.argv[1])
elif len(sys.argv) == 5:  # as the front starts what starts its engines
    from reprogram.serving.starter import main as starter

    starter(*sys.argv[1:])
else:
    raise SystemExit("usage: python -m reprogram.serving FOLDER")
