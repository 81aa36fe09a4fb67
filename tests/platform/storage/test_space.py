"""What of the checkpoints in a store can go: the same as of those in a folder."""

from __future__ import annotations

from pathlib import Path

import pytest
from s3_server import Store

from crossover.platform.storage.space import FolderSpace, StoreSpace
from crossover.trainers.durable import Digest, digest_of
from crossover.trainers.record import Commit
from crossover.trainers.storage import ObjectStore

TRIAL = "a"


def made_trial(root: Path, *, ended: bool) -> None:
    """Two commits with checkpoints; the older one relies on older best weights."""
    for step in (1, 2):
        best = root / f"best/{step}/weights.safetensors"
        best.parent.mkdir(parents=True)
        best.write_bytes(b"best" * 10 * step)
    for number in (1, 2):
        folder = root / f"commits/{number}"
        (folder / "checkpoint").mkdir(parents=True)
        (folder / "checkpoint/model.safetensors").write_bytes(b"model" * 100)
        (folder / "evaluations.arrow").write_bytes(b"rows")
        names = ("checkpoint/model.safetensors", "evaluations.arrow")
        files: dict[str, Digest] = {name: digest_of(folder / name) for name in names}
        best = root / f"best/{number}/weights.safetensors"
        needs = {best.relative_to(root).as_posix(): digest_of(best)}
        commit = Commit(number=number, files=files, needs=needs, best_step=number, has_checkpoint=True)
        (folder / "COMMIT.json").write_bytes(commit.to_bytes())
    if ended:
        (root / "end.json").write_text('{"stop_reason": "completed", "stop_evidence": "all is done"}')


@pytest.fixture
def in_store(store: Store, request: pytest.FixtureRequest) -> StoreSpace:
    store.open()
    return StoreSpace(ObjectStore(store.uri(f"bucket/{request.node.name.partition('[')[0]}")))


def put(space: StoreSpace, root: Path) -> None:
    names = {path.relative_to(root).as_posix(): path for path in root.rglob("*") if path.is_file()}
    space.study.folder(f"trials/{TRIAL}").upload(names)


@pytest.mark.parametrize("keeps_best", [True, False])
def test_of_an_ended_trial_training_states_go_and_best_weights_unless_they_are_kept(
    keeps_best: bool, in_store: StoreSpace, tmp_path: Path
) -> None:
    made_trial(tmp_path / "trials" / TRIAL, ended=True)
    put(in_store, tmp_path / "trials" / TRIAL)
    folder = FolderSpace(tmp_path)
    assert in_store.checkpoint_bytes(TRIAL) == folder.checkpoint_bytes(TRIAL) == 1000 + 120
    found = list(in_store.droppable(TRIAL, keeps_best=keeps_best))
    kinds = {"training state"} if keeps_best else {"training state", "best weights"}
    assert {one.kind for one in found} == kinds
    assert sum(map(in_store.drop, found)) == 1000 + (0 if keeps_best else 120)
    left = set(in_store.study.list())
    assert {f"trials/{TRIAL}/end.json", f"trials/{TRIAL}/commits/2/evaluations.arrow"} <= left
    assert not [name for name in left if "/checkpoint/" in name]
    assert any("/best/" in name for name in left) is keeps_best


def test_of_one_that_waits_only_what_is_older_than_its_newest_whole_checkpoint_goes(
    in_store: StoreSpace, tmp_path: Path
) -> None:
    made_trial(tmp_path / "trials" / TRIAL, ended=False)
    put(in_store, tmp_path / "trials" / TRIAL)

    def names(space: FolderSpace | StoreSpace, root: Path) -> set[str]:
        return {str(one.path.relative_to(root)) for one in space.droppable(TRIAL, keeps_best=True)}

    expected = {f"trials/{TRIAL}/commits/1", f"trials/{TRIAL}/best/1"}
    assert names(in_store, Path()) == names(FolderSpace(tmp_path), tmp_path) == expected
    in_store.study.put(f"trials/{TRIAL}/commits/2/checkpoint/model.safetensors", b"half")
    assert names(in_store, Path()) == {f"trials/{TRIAL}/best/2"}, "the older one, and what it relies on, are needed now"


def test_what_killed_writers_left_is_found(in_store: StoreSpace, tmp_path: Path) -> None:
    made_trial(tmp_path / "trials" / TRIAL, ended=False)
    (tmp_path / "trials" / TRIAL / "commits/2/COMMIT.json").unlink()
    put(in_store, tmp_path / "trials" / TRIAL)
    in_store.study.put(f"trials/{TRIAL}/shares/x/best/1", b"12345")
    found = {path.as_posix(): size for path, size in in_store.leftovers(TRIAL)}
    assert found == {f"trials/{TRIAL}/commits/2": 504, f"trials/{TRIAL}/shares/x": 5}
