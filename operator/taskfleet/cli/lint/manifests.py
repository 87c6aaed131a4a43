"""Reads manifests as kubectl does, and remembers on which line everything stands."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import yaml

Path: TypeAlias = tuple[str | int, ...]

# A few lines of aliases can stand for a document that never ends.
_MAX_NODES = 200_000


@dataclass(frozen=True, slots=True)
class Manifest:
    """One object. `source` is the file's name, `lines` the line (from 1) of each field."""

    source: str
    body: dict[str, Any]
    lines: Mapping[Path, int] = field(repr=False)

    def line(self, path: Path) -> int:
        """The line of a field; that of the nearest one around it where it is missing."""
        return next(self.lines[path[:length]] for length in range(len(path), -1, -1) if path[:length] in self.lines)

    def item(self, index: int) -> "Manifest":
        """One object of a List."""
        prefix = ("items", index)
        lines = {path[2:]: line for path, line in self.lines.items() if path[:2] == prefix}
        return Manifest(self.source, self.body["items"][index], lines)


class UnreadableError(Exception):
    """A text that is no manifest, from line `line` on."""

    def __init__(self, message: str, line: int) -> None:
        super().__init__(message)
        self.message = message
        self.line = line


class _Loader(yaml.SafeLoader):
    """As kubectl reads YAML: a date is a text."""


_Loader.yaml_implicit_resolvers = {
    letter: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for letter, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def read(source: str, text: str) -> Iterator[Manifest]:
    """The objects of a text, those of Lists one by one. Raises UnreadableError."""
    loader = _Loader(text)
    try:
        while loader.check_node():
            node = loader.get_node()
            body, lines = _Builder(loader).build(node) if node is not None else (None, {})
            if body is None:
                continue
            if not isinstance(body, dict):
                raise UnreadableError("a manifest is an object", lines[()])
            yield from _objects(Manifest(source, body, lines))
    except yaml.MarkedYAMLError as error:
        raise UnreadableError(" ".join(str(error.problem).split()), error.problem_mark.line + 1 if error.problem_mark else 1) from None
    except (yaml.YAMLError, ValueError) as error:
        raise UnreadableError(" ".join(str(error).split()), 1) from None
    except RecursionError:
        raise UnreadableError("nested too deeply", 1) from None
    finally:
        loader.dispose()


def _objects(manifest: Manifest) -> Iterator[Manifest]:
    items = manifest.body.get("items")
    if manifest.body.get("kind") != "List" or not isinstance(items, list):
        yield manifest
        return
    for index, body in enumerate(items):
        if not isinstance(body, dict):
            raise UnreadableError("a manifest is an object", manifest.line(("items", index)))
        yield from _objects(manifest.item(index))


class _Builder:
    """Makes plain data of nodes."""

    def __init__(self, loader: _Loader) -> None:
        self._loader = loader
        self._lines: dict[Path, int] = {}

    def build(self, node: yaml.Node) -> tuple[Any, dict[Path, int]]:
        return self._value(node, ()), self._lines

    def _value(self, node: yaml.Node, path: Path) -> Any:
        self._lines.setdefault(path, node.start_mark.line + 1)
        if len(self._lines) > _MAX_NODES:
            raise UnreadableError(f"more than {_MAX_NODES} fields", node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self._value(item, (*path, index)) for index, item in enumerate(node.value)]
        return self._loader.construct_object(node)

    def _mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value in seen:
                raise UnreadableError(f"key {key.value!r} stands twice", key.start_mark.line + 1)
            seen.add(str(key.value))
        self._loader.flatten_mapping(node)  # `<<: *anchor`
        mapping: dict[str, Any] = {}
        for key, value in node.value:
            name = str(key.value)
            self._lines[*path, name] = key.start_mark.line + 1
            mapping[name] = self._value(value, (*path, name))
        return mapping
