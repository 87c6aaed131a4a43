"""Pictures, sounds and films in messages. They go through as they are when the request carries them; addresses, which an engine would have to fetch, are refused.

An engine fetches from where it stands: inside the cluster, with whatever is in reach there. Engines are started so that they fetch nothing; what they would say about it is not
what a client can act on.
"""

from typing import Any

from taskfleet.gateway.errors import BadRequestError

_FIELDS = ("messages", "input")
_HERE = "data:"


def refuse_addresses(body: dict[str, Any]) -> None:
    """Raises BadRequestError where a part of a message names an address instead of the data."""
    for field in _FIELDS:
        items = body.get(field)
        if not isinstance(items, list):
            continue
        for item in items:
            content = item.get("content") if isinstance(item, dict) else None
            if isinstance(content, list) and any(map(_names_address, content)):
                raise BadRequestError(
                    "Media must be in the request, as a data: URL; addresses are not fetched here", param=field, code="remote_media"
                )


def _names_address(part: Any) -> bool:
    if not isinstance(part, dict):
        return False
    for name, value in part.items():
        # image_url, audio_url, video_url, file_url: text, or an object with `url`, as engines take both.
        if name.endswith("_url"):
            url = value.get("url") if isinstance(value, dict) else value
            if url is not None and not (isinstance(url, str) and url[: len(_HERE)].lower() == _HERE):
                return True
    return False
