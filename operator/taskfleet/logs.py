"""The one logging setup: structured lines on standard error, one per thing that changed.

Modules log with the standard library, `log.info("pool applied", extra=fields(pool="finance/tiny", replicas=2))`; the formatter puts the fields behind
the message as key=value, or everything into one JSON object. Values are quoted by JSON rules, so text from a tenant can't forge a line.
"""

import json
import logging
import sys
import textwrap
from datetime import UTC, datetime
from typing import Any, Literal

_FIELDS = "taskfleet_fields"


def fields(**values: Any) -> dict[str, Any]:
    """Structured fields for the `extra` argument of a logging call."""
    return {_FIELDS: values}


def _plain(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return text if text and text.isascii() and text.isprintable() and not set(text) & set(' "=') else json.dumps(text)


class _KeyValue(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        parts = [_time(record), record.levelname.lower(), _one_line(record.getMessage())]
        parts += [f"{key}={_plain(value)}" for key, value in getattr(record, _FIELDS, {}).items()]
        line = " ".join(parts)
        # Indented: what an exception quotes may come from a tenant, and must not look like a line of ours.
        return f"{line}\n{textwrap.indent(self.formatException(record.exc_info), '    ')}" if record.exc_info else line


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        entry = {"time": _time(record), "level": record.levelname.lower(), "logger": record.name, "message": record.getMessage()}
        entry |= {f"field_{key}" if key in entry else key: value for key, value in getattr(record, _FIELDS, {}).items()}
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=str)


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _one_line(text: str) -> str:
    return text if text.isprintable() else json.dumps(text)


def configure(*, level: str = "INFO", style: Literal["text", "json"] = "text") -> None:
    """Sets up the root logger of a command. Called once, before anything logs."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json() if style == "json" else _KeyValue())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # The client libraries' INFO lines are one per request or event.
    for noisy in ("kopf", "aiohttp.access", "urllib3", "kubernetes"):
        logging.getLogger(noisy).setLevel("WARNING")
