"""Docstrings as Markdown has them: roles as code, simple tables as they stand.

An extension of Griffe, which reads the docstrings for the site.
"""

import re
from typing import Any

import griffe

_ROLE = re.compile(r":(?:func|class|meth|mod|data|attr):`([^`]+)`")
_RULE = re.compile(r"^=+(?: +=+)+$")
_CODE = re.compile(r"``([^`]+)``( *)")


def as_markdown(text: str) -> str:
    """The text with what only reStructuredText has in Markdown's form."""
    lines: list[str] = []
    is_table = False
    for line in _ROLE.sub(r"``\1``", text).splitlines():
        if _RULE.match(line.strip()) and not is_table:
            lines.append("```text")
            is_table = True
        elif is_table and not line.strip():
            lines.append("```")
            is_table = False
        # In a table as wide as it was: what follows stands in a column.
        line = _CODE.sub(r"\1\2    ", line).rstrip() if is_table else line.replace("``", "`")
        lines.append(line)
    return "\n".join([*lines, "```"] if is_table else lines)


class Docstrings(griffe.Extension):
    """Rewrites each docstring before it is parsed."""

    def on_instance(self, *, obj: Any, **others: Any) -> None:
        """Called for each module, class, function and attribute."""
        del others
        if obj.docstring is not None:
            obj.docstring.value = as_markdown(obj.docstring.value)
