"""A client's request: parsed just far enough to route it. Fields that the gateway does not know go through unchanged."""

from dataclasses import dataclass
from typing import Any

import orjson

from taskfleet.gateway import responses
from taskfleet.gateway.errors import BadRequestError
from taskfleet.gateway.shaping import Kind, Shaper


@dataclass(slots=True)
class InferenceRequest:
    """One request for inference. `body` is its own copy of the JSON and is changed by `prepare`."""

    kind: Kind
    model: str
    stream: bool
    usage_wanted: bool  # the client asked for a stream's usage chunk
    body: dict[str, Any]

    def prepare(self, shaper: Shaper) -> None:
        """Applies the task's settings, once, before the first attempt. Raises BadRequestError."""
        if not shaper.idle:
            shaper.shape(self.body, self.kind)
        if self.stream and not self.usage_wanted and self.kind is not Kind.RESPONSE:
            # Tokens are counted for streams too; the chunk that tells them is taken out again on the way back.
            options = self.body.get("stream_options") or {}
            self.body["stream_options"] = {**options, "include_usage": True}

    def encode(self, engine_model: str, request_id: str | None = None) -> bytes:
        """The body for a pod, with the model's name inside the engine; `request_id` where the answer's id is to end with it. Raises BadRequestError."""
        self.body["model"] = engine_model
        if self.kind is Kind.RESPONSE and request_id is not None:
            # vLLM has the ids of all other answers from the header (0.32: _base_request_id), and that of a response from here.
            self.body["request_id"] = f"resp_{request_id}"
        try:
            return orjson.dumps(self.body)
        except TypeError as error:
            # orjson reads 1,024 levels and writes 254.
            raise BadRequestError(f"The body can't be passed on: {error}", code="invalid_json") from None

    def conversation(self) -> str:
        """What stays the same for all turns of a conversation, for choices that stick to it: the end user, else what the user said first."""
        user = self.body.get("user")
        if isinstance(user, str) and user:
            return f"user {user}"
        if self.kind is Kind.COMPLETION:
            return _stable_text(self.body.get("prompt"))
        items = self.body.get("messages" if self.kind is Kind.CHAT else "input")
        if not isinstance(items, list) or self.kind is Kind.EMBEDDING:
            return _stable_text(items)
        # Not the system prompt: it is the same for all.
        said = (item.get("content") for item in items if isinstance(item, dict) and item.get("role") == "user")
        return _stable_text(next(said, items))


# Of a longer text its ends stand for it: many texts begin alike.
_HALF_LENGTH = 16 * 1024


def _stable_text(value: Any) -> str:
    try:
        text = value if isinstance(value, str) else orjson.dumps(value).decode()
    except TypeError:
        return ""  # nested too deeply; `encode` will refuse it
    return text if len(text) <= 2 * _HALF_LENGTH else f"{len(text)} {text[:_HALF_LENGTH]}{text[-_HALF_LENGTH:]}"


def parse(raw: bytes, kind: Kind) -> InferenceRequest:
    """Raises BadRequestError naming the field that is wrong.

    Of a field that stands there twice the last counts, for the engine too: it gets what was understood here, not what was sent.
    """
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise BadRequestError(f"The body is not valid JSON: {error}", code="invalid_json") from None
    if not isinstance(body, dict):
        raise BadRequestError("The body must be a JSON object", code="invalid_json")
    model = body.get("model")
    if not isinstance(model, str) or not model:
        raise BadRequestError("'model' must be the name of a model: namespace/name", param="model")
    stream = body.get("stream")
    if stream is not None and not isinstance(stream, bool):
        raise BadRequestError("'stream' must be true or false", param="stream")
    if stream and kind is Kind.EMBEDDING:
        raise BadRequestError("Embeddings are not streamed", param="stream")
    options = body.get("stream_options")
    if options is not None and not isinstance(options, dict):
        raise BadRequestError("'stream_options' must be an object", param="stream_options")
    if options is not None and not stream:
        raise BadRequestError("'stream_options' is for streams only", param="stream_options")
    if kind is Kind.RESPONSE:
        responses.refuse_state(body)
    return InferenceRequest(
        kind=kind,
        model=model,
        stream=bool(stream),
        usage_wanted=options is not None and options.get("include_usage") is True,
        body=body,
    )
