"""What a task makes of a request: its prompt, generation defaults and output schema, and what a caller may set otherwise.

A setting is the caller's to choose where the task has none, or lists it under `allowOverrides`; elsewhere a request that sets it is refused with the field's
name, never quietly changed. Compiled once per revision; shaping a request then costs a few dictionary lookups.
"""

import json
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import yaml

from taskfleet.api.taskmodel import Override, Task
from taskfleet.gateway import responses
from taskfleet.gateway.errors import BadRequestError
from taskfleet.gateway.responses import INPUT

Body = dict[str, Any]


class InvalidTaskError(Exception):
    """The task's settings can't be applied; the operator refuses such a task, so none should get here."""


class Kind(StrEnum):
    """Which of OpenAI's requests it is."""

    CHAT = "chat"
    COMPLETION = "completion"
    RESPONSE = "response"
    EMBEDDING = "embedding"


@dataclass(frozen=True, slots=True)
class Parameter:
    """One generation parameter: the fields by which a request sets it, the first of which takes the task's value."""

    override: Override
    fields: tuple[str, ...]
    value: Any


@dataclass(frozen=True, slots=True)
class Shaper:
    """A task's settings, ready to be applied."""

    system_prompt: str | None = None
    template: str | None = None
    response_format: Body | None = None
    parameters: tuple[Parameter, ...] = ()
    allowed: frozenset[Override] = frozenset()
    schema_text: str | None = None

    @property
    def idle(self) -> bool:
        """The task sets nothing: requests go as they are."""
        return not (self.system_prompt or self.template or self.response_format or self.parameters)

    def shape(self, body: Body, kind: Kind) -> None:
        """Applies the task's settings to a request, in place. Raises BadRequestError naming the field that the task does not let callers set."""
        if kind is Kind.EMBEDDING:
            # Nothing is generated, so neither prompt nor parameters nor schema mean anything; models for retrieval do want words around their input.
            self._shape_embedding(body)
            return
        response = kind is Kind.RESPONSE
        for parameter in self.parameters:
            fields = _RESPONSE_FIELDS.get(parameter.override, parameter.fields) if response else parameter.fields
            self._set(body, parameter.override, fields, parameter.value)
        if response:
            self._shape_response(body)
            return
        if self.response_format is not None:
            self._set(body, Override.OUTPUT_SCHEMA, _FORMAT_FIELDS, self.response_format)
        if kind is Kind.CHAT:
            self._shape_messages(body)
        else:
            self._shape_prompt(body)

    def asks_for_schema(self, body: Body, kind: Kind) -> bool:
        """Whether a request that has been shaped asks for an answer of the task's schema: callers may be allowed to ask for another."""
        if self.response_format is None or kind is Kind.EMBEDDING:
            return False
        if kind is Kind.RESPONSE:
            text = body.get("text")
            return isinstance(text, dict) and text.get("format") == {"type": "json_schema", **self.response_format["json_schema"]}
        return bool(body.get(_FORMAT_FIELDS[0]) == self.response_format)

    def _shape_prompt(self, body: Body) -> None:
        if self.template is not None:
            body["prompt"] = _template_prompt(self.template, body.get("prompt"), "prompt")
        elif self.system_prompt is not None and Override.SYSTEM_PROMPT not in self.allowed:
            # A completion has no place for it, so it would be answered without.
            raise BadRequestError(
                "This model's task sets the system prompt, and a text completion has none: use /v1/chat/completions",
                param="prompt",
                code="override_not_allowed",
            )

    def _shape_embedding(self, body: Body) -> None:
        if self.template is None:
            return
        if body.get("messages") is not None:
            raise BadRequestError("This model's task puts a prompt around the input, which must be in 'input'", param="messages")
        body["input"] = _template_prompt(self.template, body.get("input"), "input")

    def _shape_response(self, body: Body) -> None:
        if self.response_format is not None:
            self._set_text_format(body, self.response_format["json_schema"])
        if self.system_prompt is None and self.template is None:
            return
        for field in responses.HISTORY_FIELDS:
            if body.get(field) is not None:
                raise BadRequestError("This model's task sets the prompt; requests may not", param=field, code="override_not_allowed")
        if self.template is not None:
            body["input"] = responses.with_template(self.template, body.get("input"))
        if self.system_prompt is not None:
            own = bool(body.get("instructions")) or responses.has_system_item(body.get("input"))
            if own and Override.SYSTEM_PROMPT not in self.allowed:
                param = "instructions" if body.get("instructions") else "input"
                raise BadRequestError(
                    "This model's task sets the system prompt; requests may not", param=param, code="override_not_allowed"
                )
            if not own:
                body["instructions"] = self.system_prompt

    def _set_text_format(self, body: Body, schema: Body) -> None:
        """The same as `_set`, for a field within a field."""
        text = body.get("text") or {}
        if not isinstance(text, dict):
            raise BadRequestError("'text' must be an object", param="text")
        wanted = {"type": "json_schema", **schema}
        given = {"text": text.get("format"), **{field: body.get(field) for field in _FORMAT_FIELDS}}
        given = {field: value for field, value in given.items() if value is not None}
        if not given:
            body["text"] = {**text, "format": wanted}
        elif Override.OUTPUT_SCHEMA not in self.allowed and given != {"text": wanted}:
            raise BadRequestError(
                "This model's task sets 'text.format'; requests may not", param=next(iter(given)), code="override_not_allowed"
            )

    def _set(self, body: Body, override: Override, fields: tuple[str, ...], value: Any) -> None:
        given = [field for field in fields if body.get(field) is not None]
        if not given:
            body[fields[0]] = value
        elif override not in self.allowed:
            for field in given:
                if body[field] != value:
                    raise BadRequestError(
                        f"This model's task sets {fields[0]!r}; requests may not", param=field, code="override_not_allowed"
                    )

    def _shape_messages(self, body: Body) -> None:
        if self.system_prompt is None and self.template is None:
            return
        messages = body.get("messages")
        if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
            raise BadRequestError("'messages' must be a list of objects", param="messages")
        if self.template is not None:
            messages = [_template_message(self.template, message) for message in messages]
        if self.system_prompt is not None:
            own = any(message.get("role") in _SYSTEM_ROLES for message in messages)
            if own and Override.SYSTEM_PROMPT not in self.allowed:
                raise BadRequestError(
                    "This model's task sets the system prompt; requests may not", param="messages", code="override_not_allowed"
                )
            if not own:
                messages = [{"role": "system", "content": self.system_prompt}, *messages]
        body["messages"] = messages


_SYSTEM_ROLES = ("system", "developer")
# Every field by which vLLM takes an output format; the guided_* ones are the names of older versions.
_FORMAT_FIELDS = ("response_format", "structured_outputs", "guided_json", "guided_regex", "guided_choice", "guided_grammar")
# Where /v1/responses has another name for a parameter than the older requests.
_RESPONSE_FIELDS = {Override.MAX_TOKENS: ("max_output_tokens",)}


def compile_task(task: Task) -> Shaper:
    """The shaper of a task's settings. Raises InvalidTaskError where the output schema is no JSON or YAML object."""
    defaults = task.defaults
    candidates = (
        # OpenAI's newer name for the same limit counts as setting it.
        Parameter(Override.MAX_TOKENS, ("max_tokens", "max_completion_tokens"), defaults.max_tokens),
        Parameter(Override.TEMPERATURE, ("temperature",), defaults.temperature),
        Parameter(Override.TOP_P, ("top_p",), defaults.top_p),
        Parameter(Override.TOP_K, ("top_k",), defaults.top_k),
        Parameter(Override.STOP, ("stop", "stop_token_ids"), defaults.stop or None),
        Parameter(Override.SEED, ("seed",), defaults.seed),
    )
    return Shaper(
        system_prompt=task.system_prompt,
        template=task.prompt_template,
        response_format=None if task.output_schema is None else _response_format(task.output_schema),
        parameters=tuple(parameter for parameter in candidates if parameter.value is not None),
        allowed=frozenset(task.allow_overrides),
        schema_text=task.output_schema,
    )


def _response_format(text: str) -> Body:
    try:
        schema = _parse_schema(text)
        # Dates, and keys that are not text, are YAML but not JSON.
        plain = json.loads(json.dumps(schema, allow_nan=False))
    except (ValueError, TypeError, RecursionError, yaml.YAMLError) as error:
        raise InvalidTaskError(f"outputSchema is neither JSON nor YAML of a JSON Schema: {error}") from None
    if not isinstance(plain, dict):
        raise InvalidTaskError("outputSchema is not an object")
    # vLLM takes OpenAI's form for chats and for completions alike (protocol of 0.32: `response_format: AnyResponseFormat`).
    return {"type": "json_schema", "json_schema": {"name": "output", "schema": plain, "strict": True}}


def _parse_schema(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        # A few aliases of aliases in a short YAML text grow to gigabytes when they are written out.
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, Loader=yaml.SafeLoader)):
            raise ValueError("YAML aliases are not allowed") from None
        return yaml.safe_load(text)


def _template_message(template: str, message: Body) -> Body:
    # Every turn of the user: a conversation's earlier turns were templated when they were asked, and must read the same again.
    if message.get("role") != "user":
        return message
    content = message.get("content")
    if isinstance(content, str):
        return {**message, "content": template.replace(INPUT, content)}
    if isinstance(content, list) and all(isinstance(part, dict) and isinstance(part.get("text"), str) for part in content):
        return {**message, "content": template.replace(INPUT, "".join(part["text"] for part in content))}
    raise BadRequestError("This model's task puts a prompt around the input, which must be text", param="messages")


def _template_prompt(template: str, prompt: Any, param: str) -> str | list[str]:
    if isinstance(prompt, str):
        return template.replace(INPUT, prompt)
    if isinstance(prompt, list) and prompt and all(isinstance(item, str) for item in prompt):
        return [template.replace(INPUT, item) for item in prompt]
    raise BadRequestError("This model's task puts a prompt around the input, which must be text", param=param)
