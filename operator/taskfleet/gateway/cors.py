"""What browsers ask before a page of another origin may call the API (the Fetch standard's CORS protocol). Nothing is allowed unless the administrator names the origins.

Clients show who they are by a token, never by a cookie, so credentials are not part of it.
"""

from collections.abc import Mapping

_ANY = "*"
# What a page may read of an answer beyond the standard's own list.
_EXPOSED = "x-request-id, retry-after, x-taskfleet-revision, x-taskfleet-held-seconds, x-taskfleet-held-reason"
_REMEMBERED_SECONDS = "600"


class Cors:
    """`origins`: exact ones as browsers write them, `https://tool.example`; or `*` for all."""

    def __init__(self, origins: frozenset[str]) -> None:
        self._origins = origins

    def headers(self, request: Mapping[str, str]) -> dict[str, str]:
        """Headers of every answer to a request with these headers. Nothing while no origin is named."""
        if not self._origins:
            return {}
        vary = {} if _ANY in self._origins else {"Vary": "Origin"}
        origin = request.get("Origin")
        if origin is None or not (_ANY in self._origins or origin in self._origins):
            return vary
        return {**vary, "Access-Control-Allow-Origin": _ANY if _ANY in self._origins else origin, "Access-Control-Expose-Headers": _EXPOSED}

    def preflight(self, request: Mapping[str, str], allowed: str) -> dict[str, str]:
        """Further headers of the answer to OPTIONS at an address that answers the methods `allowed`."""
        if "Access-Control-Request-Method" not in request or "Access-Control-Allow-Origin" not in self.headers(request):
            return {}
        # SDKs send headers of their own (x-stainless-…), which change with their versions. `*` does not cover Authorization.
        return {
            "Access-Control-Allow-Methods": allowed,
            "Access-Control-Allow-Headers": "Authorization, *",
            "Access-Control-Max-Age": _REMEMBERED_SECONDS,
        }
