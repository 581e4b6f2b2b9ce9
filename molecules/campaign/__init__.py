"""Rounds of proposing and measuring: what is known, what is expected of candidates, which to make next, what came true."""
