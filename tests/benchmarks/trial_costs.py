"""What a trial costs beside its training: files and bytes, the driver's time, Ray's head, requests to a store.

A real study of tiny trials runs on a Ray of its own. Records are counted by what lies there at the end; processor time
and memory of the driver and of Ray's control service are what grew between the first and the last trial, so start-up
and imports are left out. With `--store` it lies in moto's S3 server on loopback, whose requests are counted. From the
figures `docs/scaling.md` says what 1,000 concurrent and 100,000 trials ask.
"""

from __future__ import annotations

import argparse
import io
import os
import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import local_ray, publish

sys.path.append(str(Path(__file__).resolve().parent.parent))

from made_words import write_words

if TYPE_CHECKING:
    from s3_server import Store

NUM_TRIALS = 40
NUM_CPUS = 2
_TICK_SECONDS = 1.0


def study_document(corpus: Path, num_trials: int) -> dict[str, Any]:
    """Trials of a few evaluations; half of them are ended at a rung."""
    return {
        "name": "costs",
        "data": {"corpus": str(corpus), "unique_tokens": 2048, "sequence_length": 32},
        "fixed": {
            "objective.name": "autoregressive",
            "model.num_layers": 1,
            "model.width": 32,
            "schedule.epochs": 8,
            "schedule.warmup_steps": 2,
            "evaluation.validation_windows": 16,
            "evaluation.test_windows": 16,
            "execution.precision": "float32",
            "execution.threads": 1,
        },
        "axes": {"optimizer.learning_rate": {"log_uniform": [1e-4, 1e-2], "role": "nuisance"}},
        "search": {"sampler": "random", "trials": num_trials, "cohort": 4, "rungs": {"first_epoch": 2, "eta": 2}},
        "resources": {"cpus_per_worker": 1},
    }


def made_corpus(folder: Path) -> Path:
    """Made-up words."""
    from crossover.trainers.data import prepare_corpus

    prepare_corpus([write_words(folder / "text")], folder / "corpus")
    return folder / "corpus"


@dataclass
class Growth:
    """What the driver and Ray's control service held when so many trials had ended."""

    trials: list[int] = field(default_factory=list)
    driver_seconds: list[float] = field(default_factory=list)
    driver_bytes: list[int] = field(default_factory=list)
    gcs_bytes: list[int] = field(default_factory=list)

    def note(self, num_trials: int) -> None:
        """Takes one reading."""
        used = resource.getrusage(resource.RUSAGE_SELF)
        self.trials.append(num_trials)
        self.driver_seconds.append(used.ru_utime + used.ru_stime)
        self.driver_bytes.append(_resident(os.getpid()))
        self.gcs_bytes.append(sum(map(_resident, _children("gcs_server"))))

    def per_trial(self, values: list[Any]) -> float:
        """Growth from the first reading after a trial had ended to the last one."""
        first = next((at for at, trials in enumerate(self.trials) if trials), 0)
        trials = self.trials[-1] - self.trials[first]
        return (values[-1] - values[first]) / max(1, trials)


def measure(num_trials: int, store: Store | None) -> list[dict[str, Any]]:
    """The rows of the table."""
    import ray
    from rich.console import Console

    from crossover.platform.execution import driver as drivers
    from crossover.platform.execution.launch import run_study
    from crossover.platform.study import study_of

    growth, ended, actors = Growth(), Counter[str](), set[str]()
    hear = drivers.StudyDriver.leg_ended

    def leg_ended(self: Any, leg: Any, status: Any, error: Any) -> None:
        hear(self, leg, status, error)
        ended[status] += 1
        growth.note(sum(trial.is_over for trial in self.view.trials))
        actors.update(ray._private.state.actors())

    with tempfile.TemporaryDirectory(prefix="cx") as name, local_ray(Path(name) / "ray", NUM_CPUS):
        folder = Path(name)
        os.environ["CROSSOVER_CACHE"] = str(folder / "cache")
        study = study_of(study_document(made_corpus(folder), num_trials), "costs")
        drivers.StudyDriver.leg_ended = leg_ended  # type: ignore[method-assign]
        begun = time.monotonic()
        code = run_study(
            study, str(folder) if store is None else store.uri("bucket"), console=Console(file=io.StringIO())
        )
        seconds = time.monotonic() - begun
        assert code == 0, "the study must end"
        objects = _used_object_store()
        files = _files(folder / "costs") if store is None else _objects(store)
        tune = _files(folder / "costs/ray" if store is None else next((folder / "cache/studies").glob("*/driver/ray")))
    return _rows(num_trials, files, tune, growth, ended, len(actors), objects, seconds, store)


def _rows(
    num_trials: int,
    files: dict[str, int],
    tune: dict[str, int],
    growth: Growth,
    ended: Counter[str],
    num_actors: int,
    objects: float,
    seconds: float,
    store: Store | None,
) -> list[dict[str, Any]]:
    trials = {name: size for name, size in files.items() if name.startswith("trials/")}
    weights = {name: size for name, size in trials.items() if "/checkpoint/" in name or "/best/" in name}
    decisions = {name: size for name, size in files.items() if name.startswith("decisions/")}
    values = {
        "files of records": len(trials) / num_trials,
        "bytes of records without weights": (sum(trials.values()) - sum(weights.values())) / num_trials,
        "bytes of checkpoints and weights": sum(weights.values()) / num_trials,
        "bytes of decisions": sum(decisions.values()) / num_trials,
        "files of Tune": len(tune) / num_trials,
        "bytes of Tune": sum(tune.values()) / num_trials,
        "legs": ended.total() / num_trials,
        "driver's processor seconds": growth.per_trial(growth.driver_seconds),
        "driver's memory, bytes": growth.per_trial(growth.driver_bytes),
        "control service's memory, bytes": growth.per_trial(growth.gcs_bytes),
        "actors": num_actors / num_trials,
        "object store, bytes at the end": objects / num_trials,
        "wall seconds, all slots": seconds / num_trials,
    }
    if store is not None:
        kinds = Counter(request.partition(" ")[0] for request in store.requests)
        values |= {f"{kind} requests": number / num_trials for kind, number in sorted(kinds.items())}
    return [{"of one trial": name, "value": round(value, 3)} for name, value in values.items()]


def _files(folder: Path) -> dict[str, int]:
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.stat().st_size for path in paths}


def _objects(store: Store) -> dict[str, int]:
    from crossover.trainers.storage import ObjectStore

    requests = list(store.requests)
    found = {name: file.size for name, file in ObjectStore(store.uri("bucket/costs")).list().items()}
    store.requests[:] = requests
    return found


def _used_object_store() -> float:
    import ray

    total, free = ray.cluster_resources(), ray.available_resources()
    return float(total.get("object_store_memory", 0.0) - free.get("object_store_memory", 0.0))


def _resident(pid: int) -> int:
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def _children(name: str) -> Iterator[int]:
    """Processes of that name that this one started."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            head, _, rest = path.read_text().rpartition(")")
        except OSError:
            continue
        if head.partition("(")[2].startswith(name) and int(rest.split()[1]) == os.getpid():
            yield int(path.parent.name)


@contextmanager
def served(wanted: bool) -> Iterator[Store | None]:
    """moto's server, if it is wanted."""
    if not wanted:
        yield None
        return
    from s3_server import Store

    os.environ |= {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "a", "AWS_EC2_METADATA_DISABLED": "true"}
    store = Store()
    yield store
    store.close()


def main() -> None:
    """Prints and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=NUM_TRIALS)
    parser.add_argument("--store", action="store_true", help="in an S3 server on loopback instead of a folder")
    given = parser.parse_args()
    with served(given.store) as store:
        rows = measure(given.trials, store)
    publish(f"trial_costs{'_store' * given.store}", rows, [])


if __name__ == "__main__":
    main()
