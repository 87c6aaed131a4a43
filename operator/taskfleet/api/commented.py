"""The comments behind the values of an enum: there a meaning is said once, for whoever reads the code and whoever reads the documentation."""

import ast
import inspect
import re
from enum import StrEnum


def commented(enum: type[StrEnum]) -> list[tuple[str, str]]:
    """Each value with its comment, as a cell of a Markdown table. Raises ValueError where a value has none."""
    rows = []
    for line in inspect.getsource(enum).splitlines():
        found = re.fullmatch(r"\s+[A-Z_]+ = (\"\w+\")\s+# (.+)", line)
        if found:
            rows.append((str(ast.literal_eval(found[1])), found[2].replace("|", "\\|")))
    if len(rows) != len(enum):
        raise ValueError(f"every value of {enum.__module__}.{enum.__name__} needs a comment that says what it means")
    return rows
