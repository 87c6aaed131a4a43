"""Is a text a JSON Schema?

The texts come from tenants, and the operator serves all of them: YAML aliases are refused, because a few lines of them stand for a document that takes hours to
walk through, and deep nesting is an error like any other.
"""

import json
from functools import lru_cache
from typing import Any

import yaml
from jsonschema import exceptions, validators


class _PlainLoader(yaml.SafeLoader):
    """YAML without anchors and aliases."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases (`*name`) are not allowed")
        return super().compose_node(parent, index)


def parsed(text: str) -> Any:
    """The JSON data of a text in which `fault` finds none."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        document = yaml.load(text, Loader=_PlainLoader)  # noqa: S506  (a SafeLoader, and stricter)
    # YAML knows dates, sets and keys that are no strings; an engine gets JSON.
    return json.loads(json.dumps(document, allow_nan=False))


@lru_cache(maxsize=4096)
def fault(text: str) -> str | None:
    """Why the text is not a JSON Schema, in one line; None where it is one. Drafts 3 to 2020-12, by `$schema`; 2020-12 without it."""
    try:
        schema = parsed(text)
        if not isinstance(schema, dict) or not isinstance(schema.get("$schema", ""), str):
            return "a JSON Schema is an object, and its $schema a text"
        validators.validator_for(schema, default=validators.Draft202012Validator).check_schema(schema)
    except yaml.YAMLError as error:
        return f"neither JSON nor YAML: {_one_line(str(error))}"
    except exceptions.SchemaError as error:
        return f"not a JSON Schema: {_one_line(error.message)} at {error.json_path}"
    except RecursionError:
        return "nested too deeply"
    except (ValueError, TypeError) as error:
        return f"not JSON data: {_one_line(str(error))}"
    return None


def _one_line(text: str) -> str:
    return " ".join(text.split())[:300]
