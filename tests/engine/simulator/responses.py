"""vLLM's answers to /v1/responses, whole and as typed events (0.32: openai/responses/protocol.py and streaming events). Nothing is stored."""

from typing import Any

import orjson


class ResponseShape:
    """Writes one response: a message, or the call of a function."""

    def __init__(self, *, identity: str, created: int, model: str, asked: dict[str, Any], tool: str | None) -> None:
        self._identity = identity
        self._tool = tool
        self._number = 0
        self._head = {
            # Alone of all routes this one takes it from the body.
            "id": asked.get("request_id", f"resp_{identity}"),
            "created_at": created,
            "object": "response",
            "model": model,
            "instructions": asked.get("instructions"),
            "metadata": asked.get("metadata"),
            "parallel_tool_calls": True,
            "temperature": asked.get("temperature", 1.0),
            "top_p": asked.get("top_p", 1.0),
            "tool_choice": asked.get("tool_choice", "auto"),
            "tools": asked.get("tools") or [],
            "background": False,
            "max_output_tokens": asked.get("max_output_tokens", 64),
            "service_tier": "auto",
            "text": asked.get("text"),
            "truncation": "disabled",
        }

    def whole(self, text: str, finish_reason: str, used: dict[str, int]) -> bytes:
        return orjson.dumps(self._response(text, finish_reason, used))

    def stream(
        self,
        tokens: list[str],
        finish_reason: str,
        used: dict[str, int],
        *,
        include_usage: bool,  # noqa: ARG002
    ) -> tuple[bytes, list[bytes], bytes]:
        """What comes before the tokens, one event for each, and what comes after. Usage stands in the last event, whoever asked."""
        text = "".join(tokens)
        started = {**self._head, "status": "in_progress", "output": [], "usage": None}
        opening = self._event("response.created", response=started) + self._event("response.in_progress", response=started)
        place = {"output_index": 0, "item_id": self._item_id}
        opening += self._event("response.output_item.added", output_index=0, item=self._item("", "in_progress"))
        if self._tool is not None:
            deltas = [self._event("response.function_call_arguments.delta", delta=token, **place) for token in tokens]
            ending = self._event("response.function_call_arguments.done", arguments=text, name=self._tool, **place)
        else:
            opening += self._event("response.content_part.added", content_index=0, part=_part(""), **place)
            deltas = [self._event("response.output_text.delta", content_index=0, delta=token, logprobs=[], **place) for token in tokens]
            ending = self._event("response.output_text.done", content_index=0, text=text, logprobs=[], **place)
            ending += self._event("response.content_part.done", content_index=0, part=_part(text), **place)
        ending += self._event("response.output_item.done", output_index=0, item=self._item(text, "completed"))
        ending += self._event("response.completed", response=self._response(text, finish_reason, used))
        return opening, deltas, ending

    @property
    def _item_id(self) -> str:
        return f"{'fc' if self._tool else 'msg'}_{self._identity}"

    def _item(self, text: str, status: str) -> dict[str, Any]:
        if self._tool is not None:
            call = {"type": "function_call", "call_id": f"call_{self._identity}", "name": self._tool, "arguments": text}
            return {"id": self._item_id, "status": status, **call}
        content = [_part(text)] if text else []
        return {"id": self._item_id, "type": "message", "role": "assistant", "status": status, "content": content}

    def _response(self, text: str, finish_reason: str, used: dict[str, int]) -> dict[str, Any]:
        cut = finish_reason == "length"
        usage = {
            "input_tokens": used["prompt_tokens"],
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": used["completion_tokens"],
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": used["total_tokens"],
        }
        return {
            **self._head,
            "status": "incomplete" if cut else "completed",
            "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
            "output": [self._item(text, "completed")],
            "usage": usage,
        }

    def _event(self, kind: str, **fields: Any) -> bytes:
        content = {"type": kind, "sequence_number": self._number, **fields}
        self._number += 1
        return b"event: %s\ndata: %s\n\n" % (kind.encode(), orjson.dumps(content))


def _part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": None}
