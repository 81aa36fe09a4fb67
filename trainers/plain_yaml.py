"""Documents that people write, read safely: YAML with the scalars of version 1.2 and limits on everything.

PyYAML follows YAML 1.1, in which `4e13` is a string, `no` is false, `1:30` is 90, and of a key that stands twice the
last one silently wins. Here `4e13` is a number, only true and false are booleans, `24_576` is an integer, and a key
that stands twice is an error. Aliases cannot grow a document past its limit, and no tag makes more than plain values.
"""

from __future__ import annotations

import re
from collections.abc import Hashable
from typing import Any

import yaml

__all__ = ["YamlError", "parse_yaml", "write_yaml"]

MAX_BYTES = 256 * 1024
MAX_DEPTH = 20
MAX_NODES = 20_000

_TAG = "tag:yaml.org,2002:"
_PLAIN = {
    yaml.ScalarNode: tuple(_TAG + name for name in ("str", "int", "float", "bool", "null")),
    yaml.MappingNode: (_TAG + "map",),
    yaml.SequenceNode: (_TAG + "seq",),
}
_INTEGER = re.compile(r"[-+]?[0-9](?:_?[0-9])*")
_FLOAT = re.compile(
    r"[-+]?(?:\.[0-9]+|[0-9](?:_?[0-9])*(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
)
_MAX_INTEGER = 2**63
_MAX_SHOWN = 80


class YamlError(ValueError):
    """A text that is no plain YAML, or passes a limit: what is wrong, with the line."""


class _Loader(yaml.SafeLoader):
    """The safe loader with other scalars and with limits."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - the class attribute that PyYAML reads

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0
        self._num_nodes = 0
        self._sizes: dict[int, int] = {}

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Compose one node; refuse depth, aliases that grow, and tags that are not plain."""
        self._depth += 1
        mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
        if self._depth > MAX_DEPTH:
            raise yaml.composer.ComposerError(None, None, f"nested deeper than {MAX_DEPTH}", mark)
        is_alias = self.check_event(yaml.AliasEvent)
        before = self._num_nodes
        self._num_nodes += 1
        node = super().compose_node(parent, index)
        if node is not None and is_alias:
            if id(node) not in self._sizes:
                raise yaml.composer.ComposerError(None, None, "an alias inside what it names", mark)
            self._num_nodes += self._sizes[id(node)]
        elif node is not None:
            self._sizes[id(node)] = self._num_nodes - before
            if node.tag not in _PLAIN[type(node)]:
                raise yaml.composer.ComposerError(None, None, f"the tag {_shown(node.tag)} is not allowed here", mark)
        if self._num_nodes > MAX_NODES:
            raise yaml.composer.ComposerError(None, None, f"more than {MAX_NODES} values", mark)
        self._depth -= 1
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """A mapping whose keys are strings and stand once."""
        mapping: dict[Hashable, Any] = {}
        for key_node, value_node in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise _at(key_node, f"the key {_shown(key)} is no string: quote it")
            if key in mapping:
                raise _at(key_node, f"the key {_shown(key)} stands twice in one mapping: keep one")
            mapping[key] = self.construct_object(value_node, deep=deep)
        return mapping

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        """An integer within 64 bits."""
        text = str(self.construct_scalar(node))
        if not _INTEGER.fullmatch(text):
            raise _at(node, f"{_shown(text)} is no integer")
        if len(text) > 40 or not -_MAX_INTEGER <= int(text.replace("_", "")) < _MAX_INTEGER:
            raise _at(node, f"{_shown(text)} is too large for a whole number: write it as 1e30")
        return int(text.replace("_", ""))

    def construct_yaml_float(self, node: yaml.ScalarNode) -> float:
        """A number."""
        text = str(self.construct_scalar(node))
        if not _FLOAT.fullmatch(text):
            raise _at(node, f"{_shown(text)} is no number")
        return float(text.replace("_", "").lower().replace(".inf", "inf").replace(".nan", "nan"))

    def construct_yaml_bool(self, node: yaml.ScalarNode) -> bool:
        """True or false."""
        text = str(self.construct_scalar(node)).lower()
        if text not in ("true", "false"):
            raise _at(node, f"{_shown(text)} is neither true nor false")
        return text == "true"


def _at(node: yaml.Node, problem: str) -> yaml.constructor.ConstructorError:
    return yaml.constructor.ConstructorError(None, None, problem, node.start_mark)


for _name, _pattern, _first in (
    ("null", re.compile(r"^(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""]),
    ("bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")),
    ("int", re.compile(f"^(?:{_INTEGER.pattern})$"), list("-+0123456789")),
    ("float", re.compile(f"^(?:{_FLOAT.pattern})$"), list("-+.0123456789")),
):
    _Loader.add_implicit_resolver(_TAG + _name, _pattern, _first)
_Loader.add_constructor(_TAG + "int", _Loader.construct_yaml_int)
_Loader.add_constructor(_TAG + "float", _Loader.construct_yaml_float)
_Loader.add_constructor(_TAG + "bool", _Loader.construct_yaml_bool)


class _Dumper(yaml.SafeDumper):
    """Writes what `_Loader` reads back as it was; quotes also what only YAML 1.1 would misread."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - the class attribute that PyYAML reads
        first: [*yaml.SafeDumper.yaml_implicit_resolvers.get(first, []), *patterns]
        for first, patterns in {
            **{first: [] for first in yaml.SafeDumper.yaml_implicit_resolvers},
            **_Loader.yaml_implicit_resolvers,
        }.items()
    }

    def ignore_aliases(self, data: Any) -> bool:
        """No aliases: every value is written where it stands."""
        return True

    def represent_text(self, data: str) -> yaml.ScalarNode:
        """Text, its lines as lines; in double quotes where PyYAML would write a break that it then reads as a space."""
        style = '"' if any(mark in data for mark in ("\x85", "\u2028", "\u2029")) else None
        style = style or ("|" if data.count("\n") > 1 else None)
        return self.represent_scalar(_TAG + "str", data, style=style)


_Dumper.add_representer(str, _Dumper.represent_text)


def parse_yaml(text: str | bytes) -> Any:
    """The plain value of a YAML document.

    Args:
        text: The document; bytes must be UTF-8.

    Raises:
        YamlError: it is no YAML, or passes a limit.
    """
    if len(text) > MAX_BYTES:
        raise YamlError(f"{len(text)} bytes are more than the {MAX_BYTES} that a document may have")
    try:
        decoded = text.decode("utf-8-sig") if isinstance(text, bytes) else text
    except UnicodeDecodeError as error:
        raise YamlError(f"byte {error.start} is not UTF-8: save the file as UTF-8") from None
    try:
        loader = _Loader(decoded)
        try:
            return loader.get_single_data()
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        problem = (error.problem or error.context or "no valid YAML").replace("found unknown", "unknown")
        problem = problem.replace("but found another document", "a second document begins here: keep one")
        raise YamlError(f"{place}{problem}") from None
    except yaml.YAMLError as error:
        raise YamlError(f"no valid YAML: {' '.join(str(error).split())}") from None


def write_yaml(value: Any) -> str:
    """YAML that `parse_yaml` reads back as the same value."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _MAX_SHOWN else f"{text[: _MAX_SHOWN - 3]}..."
