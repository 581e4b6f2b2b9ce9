"""Does a request bring the token? Its value stands in an environment variable and nowhere else."""

from __future__ import annotations

import hmac
import os


def right_token(variable: str, header: str) -> bool:
    """Is ``header`` "Bearer" and the token? Compared in constant time; never true where no token is set."""
    token = os.environ.get(variable, "")
    return bool(token) and hmac.compare_digest(header.encode(), f"Bearer {token}".encode())
