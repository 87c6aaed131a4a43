"""Where each kind of request is asked, of the gateway and of engines."""

from taskfleet.gateway import responses
from taskfleet.gateway.shaping import Kind

PATHS = {
    Kind.CHAT: "/v1/chat/completions",
    Kind.COMPLETION: "/v1/completions",
    Kind.RESPONSE: responses.PATH,
    Kind.EMBEDDING: "/v1/embeddings",
}
