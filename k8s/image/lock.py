"""Writes requirements.lock: what the image installs beside torch, pinned as in constraints.txt, with hashes.

    .venv/bin/python k8s/image/lock.py > build/lock && mv build/lock k8s/image/requirements.lock

The packages are those that pyproject.toml asks for, on Linux, followed through the metadata that is installed here; the
hashes are those of the wheels that pip would take for Python 3.11 on x86-64. torch and its CUDA libraries come from
torch's own index, whose builds have other hashes for every CUDA version: the Dockerfile pins it by version.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import tomllib
from importlib.metadata import distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
PIN = re.compile(r"([A-Za-z0-9._-]+)==(\S+)")
IMAGE = {
    "python_version": "3.11",
    "python_full_version": "3.11.9",
    "sys_platform": "linux",
    "platform_system": "Linux",
    "platform_machine": "x86_64",
}
OF_TORCH = re.compile(r"torch|triton|nvidia-.*|cuda-.*")
PLATFORMS = ("manylinux2014_x86_64", "manylinux_2_17_x86_64", "manylinux_2_28_x86_64")


def wanted() -> list[str]:
    """`name==version` of every package, in order of their names."""
    lines = (PIN.fullmatch(line) for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines())
    pins = {canonicalize_name(match[1]): f"{match[1]}=={match[2]}" for match in lines if match}
    seen: set[tuple[str, frozenset[str]]] = set()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    todo = [Requirement(line) for line in project["dependencies"]]
    while todo:
        requirement = todo.pop()
        name = canonicalize_name(requirement.name)
        key = (name, frozenset(requirement.extras))
        if key in seen or (OF_TORCH.fullmatch(name) and name != "torch"):
            continue
        seen.add(key)
        for line in distribution(requirement.name).requires or ():
            found = Requirement(line)
            extras = requirement.extras or {""}
            if found.marker is None or any(found.marker.evaluate({**IMAGE, "extra": extra}) for extra in extras):
                todo.append(found)
    return [pins[name] for name in sorted({name for name, _ in seen} - {"torch"})]


def hashes(pins: list[str]) -> dict[str, str]:
    """sha256 of the wheel that pip takes for each of them."""
    with tempfile.TemporaryDirectory() as folder:
        asked, report = Path(folder, "asked"), Path(folder, "report")
        asked.write_text("\n".join(pins))
        command = [sys.executable, "-m", "pip", "install", "-q", "--dry-run", "--ignore-installed", "--no-deps"]
        command += ["--only-binary", ":all:", "--python-version", "3.11", "--target", folder, "--report", str(report)]
        command += [word for platform in PLATFORMS for word in ("--platform", platform)]
        subprocess.run([*command, "-r", str(asked)], check=True, stdout=sys.stderr)
        items = json.loads(report.read_text())["install"]
    return {
        canonicalize_name(item["metadata"]["name"]): item["download_info"]["archive_info"]["hashes"]["sha256"]
        for item in items
    }


def main() -> None:
    """Prints the lock."""
    pins = wanted()
    found = hashes(pins)
    print("# Written by k8s/image/lock.py from constraints.txt: Python 3.11, Linux x86-64; torch is in the Dockerfile.")
    for pin in pins:
        print(f"{pin} \\\n    --hash=sha256:{found[canonicalize_name(pin.partition('==')[0])]}")


if __name__ == "__main__":
    main()
