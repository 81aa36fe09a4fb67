"""One run without a study: a configuration file, a folder, lines on the terminal.

Ctrl-C once asks the loop to write a checkpoint and to return; a second one ends at once, and the run goes on from the
last checkpoint next time. Under torchrun every worker runs this, and the first one of all speaks.
"""

from __future__ import annotations

import math
import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from crossover.trainers.config import TrialConfig, config_from_dotted
from crossover.trainers.effects import refuse_ignored_settings
from crossover.trainers.errors import ConfigError
from crossover.trainers.plain_yaml import YamlError, parse_yaml
from crossover.trainers.rows import Evaluation, TrialEnd
from crossover.trainers.run import Progress, StopRequest

__all__ = ["load_config", "run_config", "speaks_for_machine"]

_POLL_SECONDS = 0.5  # Ctrl-C is heard at polls
_DEFAULT_FOLDER = Path("runs")
_DONE, _INTERRUPTED = 0, 130


def _say_at_once(line: str) -> None:
    if int(os.environ.get("RANK", "0")) == 0:
        print(line, flush=True)  # a pipe would hold lines back


def speaks_for_machine() -> bool:
    """Whether this process is to say an error: one worker of torchrun's on each machine, for each may have its own."""
    return int(os.environ.get("LOCAL_RANK", "0")) == 0


def run_config(
    path: Path,
    output: Path | None = None,
    overrides: Sequence[str] = (),
    say: Callable[[str], None] = _say_at_once,
) -> int:
    """Trains what the file at `path` says, with a line for each evaluation; the same call again goes on.

    Args:
        path: YAML of a `TrialConfig`: nested, or with dotted paths as keys.
        output: the trial's folder; by default `runs/<name of the file>`.
        overrides: `key=value`, dotted path and YAML, over what the file says.
        say: takes each line.

    Returns:
        Exit code: 0 when the trial has ended, 130 after Ctrl-C.

    Raises:
        CrossoverError: the file, a setting or the folder is wrong.
    """
    config = load_config(path, overrides)
    from crossover.trainers.loop import train  # loads torch: a mistake in the file is said before

    run = _ConsoleRun(output or _DEFAULT_FOLDER / path.stem, say)
    say(f"{config.objective.name} on {config.data.unique_tokens:,} tokens of {config.data.corpus}: {run.directory}")
    try:
        with _interrupts(run):
            leg = train(_polled_often(config), run)
    except KeyboardInterrupt:
        say("stopped at once: the same command goes on from the last checkpoint")
        return _INTERRUPTED
    if leg.end is None:
        say("interrupted: the same command goes on from here")
        return _INTERRUPTED
    say(_end_line(leg.end))
    return _DONE


def load_config(path: Path, overrides: Sequence[str] = ()) -> TrialConfig:
    """The configuration in the YAML file at `path`, with `key=value` over it.

    Raises:
        ConfigError: the file cannot be read or is no mapping, or a setting, which the message names, is wrong or would
            be ignored.
    """
    try:
        content = parse_yaml(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
    except YamlError as error:
        raise ConfigError(f"{path}: {error}") from None
    if not isinstance(content, dict):
        raise ConfigError(
            f"{path} holds {'nothing' if content is None else type(content).__name__}, but must hold a mapping of "
            "settings, as `data: {corpus: python-stdlib, unique_tokens: 24576}`"
        )
    if "axes" in content or "fixed" in content:
        raise ConfigError(f"{path} is a study, not the configuration of one run: start it with crossover run {path}")
    settings = dict(_flattened(content))
    settings.update(_parsed(override) for override in overrides)
    _refuse_values_that_hold_others(settings)
    config = config_from_dotted(settings)
    refuse_ignored_settings(settings, config)
    return config


def _flattened(content: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    seen: set[str] = set()
    for key, value in content.items():
        inner = _flattened(value, f"{prefix}{key}.") if isinstance(value, dict) else [(f"{prefix}{key}", value)]
        for path, leaf in inner:
            if path in seen:
                raise ConfigError(f"{path} is set twice, nested and with dots: set it once")
            seen.add(path)
            yield path, leaf


def _parsed(override: str) -> tuple[str, Any]:
    path, equals, value = override.partition("=")
    if not equals or not path.strip():
        raise ConfigError(f"--set {override[:80]} is no key=value: give a dotted path and a value, as seed=1")
    try:
        return path.strip(), parse_yaml(value)
    except YamlError as error:
        raise ConfigError(f"--set {path}: {error}") from None


def _refuse_values_that_hold_others(settings: Mapping[str, Any]) -> None:
    """`data: 5` beside `data.seed: 1` has no meaning."""
    for path in settings:
        for other in settings:
            if other.startswith(f"{path}."):
                raise ConfigError(f"{path} is set to {settings[path]!r} and {other} to {settings[other]!r}: set one")


def _polled_often(config: TrialConfig) -> TrialConfig:
    poll_seconds = min(config.checkpoint.poll_seconds, _POLL_SECONDS)
    checkpoint = config.checkpoint.model_copy(update={"poll_seconds": poll_seconds})
    return config.model_copy(update={"checkpoint": checkpoint})


@dataclass
class _ConsoleRun:
    """Says each evaluation; asks to stop after Ctrl-C."""

    directory: Path
    say: Callable[[str], None]
    until_tokens: int | None = None
    published: None = None
    interrupted: bool = field(default=False)

    def evaluated(self, evaluation: Evaluation) -> None:
        """Says one line."""
        self.say(_line(evaluation))

    def should_stop(self, progress: Progress) -> StopRequest | None:
        """After Ctrl-C."""
        if not self.interrupted:
            return None
        self.say("Ctrl-C: writing a checkpoint; again to stop at once")
        return StopRequest("interrupted", "Ctrl-C")


@contextmanager
def _interrupts(run: _ConsoleRun) -> Iterator[None]:
    """Ctrl-C is a request, and Ctrl-C again is what it always is."""

    def ask(number: int, frame: FrameType | None) -> None:
        run.interrupted = True  # said at the next poll: a handler must not write in the middle of a write
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = signal.signal(signal.SIGINT, ask)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _line(row: Evaluation) -> str:
    """Within 80 columns, but for what is written after them where the loss has risen."""
    train_loss = "     -" if row.train_loss is None else f"{row.train_loss:6.3f}"
    rise = f"  {row.rise_over_best:+.3f} over the best" if row.rise_over_best > 0 else ""
    return (
        f"epoch {row.epoch:7.2f}  train {train_loss}  val {row.val_loss:6.3f} ± {row.val_loss_se:.3f}  "
        f"{row.val_bits_per_byte:6.3f} bits/byte  {row.tokens_per_second or math.nan:7,.0f} tok/s{rise}"
    )


def _end_line(end: TrialEnd) -> str:
    best = "no evaluation was finite"
    if end.best_bits_per_byte is not None and end.best_epoch is not None:
        best = f"best {end.best_bits_per_byte:.4f} bits per byte at epoch {end.best_epoch:.4g}"
    test = ""
    if end.test_bits_per_byte is not None:
        test = f"; test {end.test_bits_per_byte:.4f} ± {end.test_bits_per_byte_se or math.nan:.4f}"
    return f"{end.stop_reason}: {end.stop_evidence}; {best}{test}"
