"""Whether every machine of the cluster reaches the storage, asked before the first trial.

A task on each machine reads what the driver wrote there, and writes a file in its own name, which the driver reads
back. One that cannot is named with its reason: a trial there would train what nobody sees.
"""

from __future__ import annotations

import shutil
import socket
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from crossover.trainers.durable import TEMPORARY, durable_file
from crossover.trainers.errors import CrossoverError
from crossover.trainers.storage import ObjectStore

__all__ = ["FolderProbe", "ProbePlace", "StoreProbe", "check_reach", "unreached"]

_ANSWER_SECONDS = 120.0
_SIGHT_SECONDS = 30.0  # a network's file system may take its time
_STORE_SECONDS = 20.0
_POLL_SECONDS = 0.2
_DRIVER = "driver"
_SHOWN = 5


class ProbePlace(Protocol):
    """A place in the storage, as it is seen from the machine that asks."""

    def write(self, name: str, content: bytes) -> None:
        """Puts a file."""

    def read(self, name: str) -> bytes | None:
        """Its content; None: nobody here sees it."""

    def remove(self) -> None:
        """Removes the place."""


@dataclass(frozen=True)
class FolderProbe:
    """In a folder."""

    folder: Path

    @classmethod
    def of(cls, study_dir: Path) -> FolderProbe:
        """A new one in a study's folder."""
        return cls(study_dir / f"{TEMPORARY}probe-{uuid.uuid4().hex}")

    def write(self, name: str, content: bytes) -> None:
        """Puts a file."""
        if name != _DRIVER and not self.folder.is_dir():
            raise OSError(f"there is no {self.folder.parent} of that content")
        durable_file(self.folder / name, content)

    def read(self, name: str) -> bytes | None:
        """Its content, once it is seen."""
        deadline = time.monotonic() + _SIGHT_SECONDS
        while not (self.folder / name).exists():
            if time.monotonic() > deadline or not self.folder.parent.exists():
                return None
            time.sleep(_POLL_SECONDS)
        return (self.folder / name).read_bytes()

    def remove(self) -> None:
        """Removes the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)


@dataclass(frozen=True)
class StoreProbe:
    """In an object store, which is not waited for as long as in the middle of a study."""

    store: ObjectStore

    @classmethod
    def of(cls, study: ObjectStore) -> StoreProbe:
        """A new one in a study's folder."""
        return cls(replace(study.folder(f"probe/{uuid.uuid4().hex}"), patience_seconds=_STORE_SECONDS))

    def write(self, name: str, content: bytes) -> None:
        """Puts an object."""
        self.store.put(name, content)

    def read(self, name: str) -> bytes | None:
        """Its content."""
        return self.store.get(name)

    def remove(self) -> None:
        """Removes the folder."""
        self.store.remove_folders([""])


def check_reach(place: ProbePlace, shown: str) -> None:
    """Asks every machine of the cluster that this process is connected to; one alone is not asked.

    Args:
        place: in the study's folder.
        shown: that folder as the user names it.

    Raises:
        CrossoverError: machines that do not reach it, with what each of them says.
    """
    nodes = {node["NodeID"]: node for node in ray.nodes() if node["Alive"]}  # type: ignore[no-untyped-call]
    if len(nodes) < 2:
        return
    try:
        found = dict(unreached(place, list(nodes)))
    finally:
        place.remove()
    if found:
        named = [f"{nodes[node]['NodeManagerHostname']} ({nodes[node]['NodeManagerAddress']})" for node in found]
        listed = [f"  {name}: {why}" for name, why in zip(named, found.values(), strict=True)][:_SHOWN]
        more = f"\n  and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        raise CrossoverError(
            f"storage that not all nodes reach: {shown} is not reached by {len(found)} of {len(nodes)} machines:\n"
            + "\n".join(listed)
            + f"{more}\nGive a folder that all of them share, or an object store for which all of them have "
            "credentials, with --storage"
        )


def unreached(place: ProbePlace, nodes: list[str]) -> Iterator[tuple[str, str]]:
    """Nodes that do not reach a place, by their ids, each with its reason."""
    place.write(_DRIVER, _DRIVER.encode())
    asked = {_ask(place, node): node for node in nodes}
    answered, silent = ray.wait(list(asked), num_returns=len(asked), timeout=_ANSWER_SECONDS)
    for answer in silent:
        ray.cancel(answer, force=True)
        yield asked[answer], f"no answer within {_ANSWER_SECONDS:g} s"
    answers: Mapping[str, Any] = {asked[answer]: answer for answer in answered}
    for node, answer in answers.items():
        if (why := _reason(place, node, answer)) is not None:
            yield node, why


def _ask(place: ProbePlace, node: str) -> Any:
    there = NodeAffinitySchedulingStrategy(node, soft=False)
    task: Any = ray.remote(_try)
    return task.options(num_cpus=0, max_retries=0, scheduling_strategy=there).remote(place, node)


def _try(place: ProbePlace, node: str) -> str | None:
    """On the machine: what is wrong there; None: nothing."""
    try:
        if place.read(_DRIVER) != _DRIVER.encode():
            return "it does not see what the driver wrote there"
        place.write(node, socket.gethostname().encode())
    except (OSError, CrossoverError) as error:
        return str(error)
    return None


def _reason(place: ProbePlace, node: str, answer: Any) -> str | None:
    try:
        why: str | None = ray.get(answer)
    except ray.exceptions.RayError as error:
        return str(error).strip().splitlines()[-1]
    if why is None and place.read(node) is None:
        return "the driver does not see what it wrote there"
    return why
