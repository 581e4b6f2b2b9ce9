"""A saved program behind the Open Inference Protocol: a runtime for MLServer, and the server that guards it.

``implementation: reprogram.serving.ProgramRuntime`` with ``parameters.uri: PROGRAM_FOLDER`` works in any MLServer;
``python -m reprogram.serving FOLDER`` is MLServer with limits, a token, a page for people and a watch over its worker.
Needs the extra ``serving``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reprogram.serving.runtime import ProgramRuntime

__all__ = ["ProgramRuntime"]


def __getattr__(name: str) -> Any:
    """MLServer itself is imported only where it is used."""
    if name == "ProgramRuntime":
        from reprogram.serving.runtime import ProgramRuntime

        return ProgramRuntime
    raise AttributeError(f"module 'reprogram.serving' has no attribute {name!r}")
