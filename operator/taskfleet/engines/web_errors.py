"""What an engine's web server says by itself, before the engine is asked."""

import orjson


def is_unknown_route(status: int, body: bytes) -> bool:
    """Whether the engine has no such route. Engines have those of what their model can do: one for embeddings can't chat.

    vLLM answers an unknown model with 404 as well. Of the two this is the web framework's: `{"detail": "Not Found"}`, or the same words in vLLM's shape for errors.
    """
    if status != 404:
        return status == 405
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        return False
    if not isinstance(answer, dict):
        return False
    error = answer.get("error")
    return (error.get("message") if isinstance(error, dict) else answer.get("detail")) == "Not Found"
