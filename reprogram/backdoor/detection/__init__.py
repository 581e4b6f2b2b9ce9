"""Does a source hide a Trojan? Three tests, calibrated on clean reference models. None of them can prove that it is clean."""
