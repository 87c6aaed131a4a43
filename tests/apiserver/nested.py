"""Objects that are nested deeper than Python's own parsers read; they are handed in as text."""

import json

from taskfleet import names
from tests.apiserver.conftest import ApiServer
from tests.apiserver.objects import changed, put
from tests.cluster.api import KINDS, Kind, Object

NESTED = "NESTED"


def nested(levels: int, key: str) -> str:
    return f'{{"{key}":' * levels + "{}" + "}" * levels


def create_nested(api_server: ApiServer, kind: Kind, body: Object, text: str) -> None:
    """Creates an object with `text` where its body says NESTED."""
    written = json.dumps(body).replace(f'"{NESTED}"', text)
    api_server.kubectl("create", "--raw", kind.path(body["metadata"].get("namespace", "")), "-f", "-", stdin=written)


def create_forged(api_server: ApiServer, body: Object, levels: int, *, manager: str) -> None:
    """Creates an object with field sets of its author's making, as the API server keeps them of anybody."""
    entry = {"manager": manager, "operation": "Apply", "apiVersion": names.API_VERSION, "fieldsType": "FieldsV1", "fieldsV1": NESTED}
    create_nested(api_server, KINDS[body["kind"]], changed(body, put("metadata.managedFields", [entry])), nested(levels, "f:a"))
