"""Reading manifests as kubectl does, with limits: several documents, YAML 1.1, no key that stands twice."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from crossover.platform.cluster.lint.finding import Document
from crossover.trainers.errors import CrossoverError

__all__ = ["ManifestError", "parse_manifest", "read_manifest"]

_MAX_BYTES = 4 * 1024 * 1024
_MAX_DEPTH = 64
_MAX_NODES = 100_000


class ManifestError(CrossoverError):
    """A manifest that cannot be read."""


class _Loader(yaml.SafeLoader):
    """The safe loader; dates stay text, as in kubectl."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - the class attribute that PyYAML reads
        first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def __init__(self, stream: Any) -> None:
        super().__init__(stream)
        self._depth = 0
        self._num_nodes = 0
        self._sizes: dict[int, int] = {}

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Compose one node; refuse depth, and aliases that grow: what they name counts again."""
        mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
        is_alias, before = self.check_event(yaml.AliasEvent), self._num_nodes
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise yaml.composer.ComposerError(None, None, f"nested deeper than {_MAX_DEPTH}", mark)
        node = super().compose_node(parent, index)
        self._num_nodes += 1
        if is_alias and id(node) not in self._sizes:
            raise yaml.composer.ComposerError(None, None, "an alias inside what it names", mark)
        if is_alias:
            self._num_nodes += self._sizes[id(node)]
        else:
            self._sizes[id(node)] = self._num_nodes - before
        if self._num_nodes > _MAX_NODES:
            raise yaml.composer.ComposerError(None, None, f"more than {_MAX_NODES:,} values", mark)
        self._depth -= 1
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """A mapping whose keys are strings and stand once."""
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for (key_node, _), key in zip(node.value, keys, strict=True):
            if not isinstance(key, str) or keys.count(key) > 1:
                problem = f"the key {str(key)[:80]!r} " + ("stands twice" if isinstance(key, str) else "is no string")
                raise yaml.constructor.ConstructorError(None, None, problem, key_node.start_mark)
        return super().construct_mapping(node, deep=deep)


def read_manifest(path: Path) -> list[Document]:
    """The documents of a file; `-` is standard input.

    Raises:
        ManifestError: it cannot be read, or is no manifest.
    """
    try:
        content = Path("/dev/stdin").read_bytes() if str(path) == "-" else path.read_bytes()
    except OSError as error:
        raise ManifestError(
            f"manifest {path}: {error.strerror}: give a file of YAML, or - for standard input"
        ) from None
    return parse_manifest(content, str(path))


def parse_manifest(content: bytes | str, what: str) -> list[Document]:
    """The documents of a text.

    Raises:
        ManifestError: it is no YAML, too large, or a document of it is no mapping.
    """
    if len(content) > _MAX_BYTES:
        raise ManifestError(f"manifest {what}: {len(content):,} bytes are more than the {_MAX_BYTES:,} that are read")
    try:
        values = [value for value in yaml.load_all(content, Loader=_Loader) if value is not None]
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise ManifestError(f"manifest {what}: {line}{error.problem}") from None
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise ManifestError(f"manifest {what}: no valid YAML: {' '.join(str(error).split())[:200]}") from None
    if not values:
        raise ManifestError(f"manifest {what}: it is empty")
    for value in values:
        if not isinstance(value, dict):
            raise ManifestError(
                f"manifest {what}: {str(value)[:60]!r} is no object: kind, metadata and spec are needed"
            )
    return [Document(value) for value in values]
