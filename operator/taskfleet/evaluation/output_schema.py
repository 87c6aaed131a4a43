"""A task's output schema, ready to be held against answers.

Nothing outside of the schema is looked up: a `$ref` to a URL would otherwise make whoever checks fetch it. How long a check takes is the schema's author's to choose, by patterns
and by references that multiply, so whoever serves others checks within a `cpu_limit`.
"""

from typing import Any

from jsonschema import validators
from referencing.exceptions import Unresolvable
from referencing.jsonschema import EMPTY_REGISTRY

from taskfleet.planning import schematext


class SchemaError(Exception):
    """The text is no JSON Schema, or points at one that is not in it."""


class OutputSchema:
    """One schema. Drafts as `schematext.fault` knows them."""

    def __init__(self, text: str) -> None:
        """Raises SchemaError."""
        if (fault := schematext.fault(text)) is not None:
            raise SchemaError(fault)
        schema = schematext.parsed(text)
        kind = validators.validator_for(schema, default=validators.Draft202012Validator)
        self._validator = kind(schema, registry=EMPTY_REGISTRY)

    def allows(self, value: Any) -> bool:
        """Does a JSON value follow the schema? Raises SchemaError for a reference that leads out of it."""
        try:
            return bool(self._validator.is_valid(value))
        except Unresolvable as error:
            raise SchemaError(f"the output schema points at {error.ref!r}, which is not in it") from None
        except RecursionError:
            return False
