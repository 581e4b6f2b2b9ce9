"""How a molecule is put to a language model; found by name beside :mod:`reprogram.inputs`."""
