"""Earlier place of :mod:`reprogram.robustness.certification.linear_bounds`: scripts written for version 0.1.0 import it.

The modules are the same objects under both names, so classes compare as one.
"""

import sys
from importlib import import_module

from reprogram.robustness.certification import linear_bounds

for _name in ("bounds", "certify", "relax", "trace"):
    sys.modules[f"{__name__}.{_name}"] = import_module(f"{linear_bounds.__name__}.{_name}")
