"""Hook of mkdocs: docstrings name other objects in Sphinx's way (:meth:`fit`); pages show the name alone."""

import re
from typing import Any

ROLE = re.compile(r":(?:meth|class|func|mod|attr|data):(<[^>]*>)*<code>~?([^<]*)</code>")


def on_page_content(html: str, **_: Any) -> str:
    """``html`` without the roles."""
    return ROLE.sub(r"\1<code>\2</code>", html)
