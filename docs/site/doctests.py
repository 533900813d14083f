"""Examples of docstrings as blocks of code: the reference would show `>>>` as quotations otherwise."""

import re
from typing import Any

from griffe import Extension, Object

EXAMPLE = re.compile(r"^([ ]*)>>> .*(?:\n(?![ ]*$).*)*", re.MULTILINE)
"""A doctest with its output, up to an empty line."""


class Doctests(Extension):
    """Put each doctest of a docstring into a fence."""

    def on_object(self, *, obj: Object, **kwargs: Any) -> None:
        """Change an object's docstring before it is parsed."""
        if obj.docstring:
            obj.docstring.value = EXAMPLE.sub(r"\1```pycon\n\g<0>\n\1```", obj.docstring.value)
