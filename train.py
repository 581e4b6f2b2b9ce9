"""``python train.py``: the same as the console script ``reprogram``."""

from reprogram.cli import main

main()
