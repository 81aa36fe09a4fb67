"""Names of places: paths, and URIs of object stores, where what follows `?` says how the store is reached."""

from __future__ import annotations

__all__ = ["is_uri", "joined", "parts_of", "storage_mistake"]

_SCHEMES = ("s3", "gs")


def is_uri(name: str) -> bool:
    """Whether a name is a URI and not a local path."""
    return "://" in name


def parts_of(uri: str) -> tuple[str, str]:
    """What stands before the first `?`, and behind it."""
    where, _, query = uri.partition("?")
    return where, query


def joined(folder: str, name: str) -> str:
    """The URI, or path, of `name` in a folder; what follows `?` stays behind it."""
    where, query = parts_of(folder) if is_uri(folder) else (folder, "")
    return f"{where.rstrip('/')}{name and f'/{name}'}{query and f'?{query}'}"


def storage_mistake(value: str) -> str | None:
    """What is wrong with a URI as a place for studies, and the remedy; None: nothing, or it is a path.

    A URI is kept with the study: secrets do not belong into it.
    """
    if not is_uri(value):
        return None
    scheme, _, rest = value.partition("://")
    host = parts_of(rest)[0].partition("/")[0]
    if scheme not in _SCHEMES:
        return (
            f"{value!r}: a study is kept in a folder, or in an object store as s3://bucket/folder or gs://bucket/folder"
        )
    if "@" in host and host.partition("@")[0] != "anonymous":
        return (
            f"{scheme}://***@{host.rpartition('@')[2]}: a study's storage holds no credentials, since the study is "
            "written down: give them by the environment, a credentials file or a role of the machine"
        )
    return None if host.rpartition("@")[2] else f"{value!r} names no bucket: name one, as {scheme}://bucket/folder"
