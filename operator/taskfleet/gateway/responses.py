"""What is special about `/v1/responses`: the gateway keeps nothing between two requests, and says so; and the many shapes of `input`."""

from typing import Any

from taskfleet.gateway.errors import BadRequestError

Body = dict[str, Any]

INPUT = "{input}"

PATH = "/v1/responses"
NOT_STORED = "Responses are not stored here, so there is none to be fetched, continued or cancelled: send the whole conversation in 'input'"

# vLLM's own fields for earlier turns; what stands in them gets round a task's prompt.
HISTORY_FIELDS = ("previous_response", "previous_input_messages")
_SYSTEM_ROLES = ("system", "developer")


def refuse_state(body: Body) -> None:
    """Raises BadRequestError where a request needs something that was, or is to be, remembered. Everything else goes on as one that is not stored."""
    for field in ("previous_response_id", "conversation"):
        if body.get(field) is not None:
            raise BadRequestError(NOT_STORED, param=field, code="unsupported_value")
    for field in ("store", "background"):
        # OpenAI's default for `store` is true, so that only one who writes it relies on it.
        if body.get(field):
            raise BadRequestError(NOT_STORED, param=field, code="unsupported_value")
    # An engine may have a store of its own, which is one for all callers of the pool.
    body["store"] = False
    # Engines take it for the response's id, which they hold to be unique; the gateway has one of its own.
    body.pop("request_id", None)


def has_system_item(items: Any) -> bool:
    """Whether the input brings a system prompt of its own."""
    return isinstance(items, list) and any(isinstance(item, dict) and item.get("role") in _SYSTEM_ROLES for item in items)


def with_template(template: str, given: Any) -> str | list[Any]:
    """The input with the task's prompt around every turn of the user. Raises BadRequestError."""
    if isinstance(given, str):
        return template.replace(INPUT, given)
    if isinstance(given, list) and given:
        return [_templated(template, item) for item in given]
    raise BadRequestError("'input' must be text or a list of items", param="input")


def _templated(template: str, item: Any) -> Any:
    if not isinstance(item, dict) or item.get("role") != "user":
        return item
    content = item.get("content")
    if isinstance(content, str):
        return {**item, "content": template.replace(INPUT, content)}
    if isinstance(content, list) and all(isinstance(part, dict) and isinstance(part.get("text"), str) for part in content):
        return {**item, "content": template.replace(INPUT, "".join(part["text"] for part in content))}
    raise BadRequestError("This model's task puts a prompt around the input, which must be text", param="input")
