"""What a request asks for, and the tokens of its answer. Pure.

The answer tells whose it is: `adapter <first 12 digits of the weights' SHA-256> prompt <first 12 digits of the prompt's>`, or `base …` where no adapter was asked. A token is a
byte of the prompt, and four characters of the answer.
"""

import hashlib
import json
from dataclasses import dataclass, field, replace
from typing import Any

from .schema import simplest

CHARACTERS_PER_TOKEN = 4


class InvalidRequestError(Exception):
    """The request can't be served as it is: 400."""


@dataclass(frozen=True, slots=True)
class Faults:
    """The request's own wishes for trouble, in its JSON field `sim`: answer with this code, wait first, be slow, break off, say this, kill the core."""

    code: int = 0
    delay_seconds: float = 0.0
    token_seconds: float = 0.0
    break_after: int = -1
    answer: str = ""
    die: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One request, whichever route it came by."""

    model: str | None
    prompt: str
    max_tokens: int | None
    stream: bool
    include_usage: bool
    schema: Any
    faults: Faults
    tool: str | None = None  # the function to be called; the answer is its arguments then
    body: dict[str, Any] = field(default_factory=dict)  # as it came: some of it is repeated in the answer

    @property
    def prompt_tokens(self) -> int:
        return len(self.prompt.encode()) + 1


def read_chat(body: dict[str, Any], *, tool_parser: bool) -> Question:
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages or not all(isinstance(message, dict) for message in messages):
        raise InvalidRequestError("messages: a list of messages is required")
    prompt = "\n".join(_text(message.get("content")) for message in messages) + " => "
    question = _question(body, prompt, body.get("max_completion_tokens") or body.get("max_tokens"))
    return _calling(question, [tool.get("function") or {} for tool in body.get("tools") or []], tool_parser=tool_parser)


def read_completion(body: dict[str, Any]) -> Question:
    prompt = body.get("prompt")
    if isinstance(prompt, list):
        prompt = "".join(map(str, prompt))
    if not isinstance(prompt, str) or not prompt:
        raise InvalidRequestError("prompt: a text is required")
    # As in OpenAI's API of old: sixteen tokens, where nothing is said.
    return _question(body, prompt, body.get("max_tokens") or 16)


def read_response(body: dict[str, Any], *, tool_parser: bool) -> Question:
    given = body.get("input")
    items = [{"role": "user", "content": given}] if isinstance(given, str) else given
    if not isinstance(items, list) or not items or not all(isinstance(item, dict) for item in items):
        raise InvalidRequestError("input: a text or a list of items is required")
    if body.get("previous_response_id"):
        raise InvalidRequestError("nothing is stored here")
    system = [body["instructions"]] if body.get("instructions") else []
    prompt = "\n".join([*system, *(_text(item.get("content")) for item in items)]) + " => "
    text = (body.get("text") or {}).get("format") or {}
    question = replace(_question(body, prompt, body.get("max_output_tokens")), schema=text.get("schema"))
    return _calling(question, body.get("tools") or [], tool_parser=tool_parser)


def _calling(question: Question, tools: list[dict[str, Any]], *, tool_parser: bool) -> Question:
    """What is asked of tools. Whether one is called at all where the request leaves that open, this engine answers with no."""
    choice = question.body.get("tool_choice") or ("auto" if tools else "none")
    if not tools or choice == "none":
        return question
    wanted = None if isinstance(choice, str) else choice.get("name") or (choice.get("function") or {}).get("name")
    if not tool_parser:
        if choice == "auto":
            raise InvalidRequestError('"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set')
        asked = f'"{choice}"' if wanted is None else f'function "{wanted}"'
        raise InvalidRequestError(f"tool_choice={asked} requires --tool-call-parser to be set")
    if choice == "auto":
        return question
    tool = next((tool for tool in tools if wanted in (None, tool.get("name"))), None)
    if tool is None:
        raise InvalidRequestError("Tool choice 'function' not found in 'tools' parameter.")
    return replace(question, tool=tool["name"], schema=tool.get("parameters") or {"type": "object"})


def answer(question: Question, adapter_digest: str | None) -> list[str]:
    """The whole answer, cut into tokens."""
    if question.faults.answer:
        text = question.faults.answer
    elif question.schema is not None:
        text = json.dumps(simplest(question.schema))
    else:
        who = "base" if adapter_digest is None else f"adapter {adapter_digest[:12]}"
        text = f"{who} prompt {hashlib.sha256(question.prompt.encode()).hexdigest()[:12]}"
    return [text[start : start + CHARACTERS_PER_TOKEN] for start in range(0, len(text), CHARACTERS_PER_TOKEN)]


def _question(body: dict[str, Any], prompt: str, max_tokens: Any) -> Question:
    if max_tokens is not None and (not isinstance(max_tokens, int) or max_tokens < 1):
        raise InvalidRequestError(f"max_tokens must be at least 1, got {max_tokens}.")
    return Question(
        model=body.get("model"),
        prompt=prompt,
        max_tokens=max_tokens,
        stream=bool(body.get("stream")),
        include_usage=bool((body.get("stream_options") or {}).get("include_usage")),
        schema=_schema(body),
        faults=_faults(body.get("sim") or {}),
        body=body,
    )


def _schema(body: dict[str, Any]) -> Any:
    wanted = body.get("response_format") or {}
    if wanted.get("type") == "json_schema":
        return (wanted.get("json_schema") or {}).get("schema")
    if wanted.get("type") == "json_object":
        return {"type": "object"}
    structured = body.get("structured_outputs") or {}
    if choices := structured.get("choice"):
        raise InvalidRequestError(f"choices are not simulated: {choices}")
    return structured.get("json")


def _faults(wishes: dict[str, Any]) -> Faults:
    return Faults(
        code=int(wishes.get("code", 0)),
        delay_seconds=float(wishes.get("delay_ms", 0)) / 1000,
        token_seconds=float(wishes.get("token_ms", 0)) / 1000,
        break_after=int(wishes.get("break_after", -1)),
        answer=str(wishes.get("answer", "")),
        die=bool(wishes.get("die")),
    )


def _text(content: Any) -> str:
    if isinstance(content, list):
        return "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return "" if content is None else str(content)
