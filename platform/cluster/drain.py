"""What a worker's pod runs before it is stopped: Ray hears that the machine goes, and trials leave with a checkpoint.

Without it Ray misses the machine only after 10 s of silence. `python -m crossover.platform.cluster.drain SECONDS` ends
as soon as nothing of Ray's runs here any more, and after so many seconds at the latest.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

__all__ = ["drain", "main", "node_id_here"]

_NODE_ID = re.compile(rb"--node[-_]id=([0-9a-f]{56})\b")
_LOOK_SECONDS = 0.5


def node_id_here(processes: Path = Path("/proc")) -> str | None:
    """The id of the Ray node of this pod, from the command line of its raylet; None: none runs."""
    for file in processes.glob("[0-9]*/cmdline"):
        try:
            words = file.read_bytes().split(b"\0")
        except OSError:  # it has ended
            continue
        if Path(words[0].decode(errors="replace")).name == "raylet":
            for word in words:
                if (found := _NODE_ID.fullmatch(word)) is not None:
                    return found[1].decode()
    return None


def drain(seconds: int, address: str) -> int:
    """Tells the cluster that this node goes, and waits until it has gone or the time is over.

    Args:
        seconds: until the pod is stopped.
        address: of the head, `host:port`.

    Returns:
        The exit code: 0 also where there is nothing to drain.
    """
    deadline = time.monotonic() + seconds
    if (node_id := node_id_here()) is None:
        return 0
    command = [str(Path(sys.executable).with_name("ray")), "drain-node", "--address", address, "--node-id", node_id]
    command += ["--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "the pod is stopped"]
    command += ["--deadline-remaining-seconds", str(seconds)]
    try:
        done = subprocess.run(command, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        return 1
    while done.returncode == 0 and time.monotonic() < deadline and node_id_here() == node_id:
        time.sleep(_LOOK_SECONDS)
    return done.returncode


def main(arguments: list[str] | None = None) -> int:
    """Entry point of the pod's preStop hook; RAY_ADDRESS is the operator's."""
    words = sys.argv[1:] if arguments is None else arguments
    address = os.environ.get("RAY_ADDRESS", "")
    if len(words) != 1 or not words[0].isdecimal() or not address:
        sys.stderr.write("usage, with RAY_ADDRESS set: python -m crossover.platform.cluster.drain SECONDS\n")
        return 2
    return drain(int(words[0]), address)


if __name__ == "__main__":
    sys.exit(main())
