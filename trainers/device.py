"""Where a run is computed, and how exactly: device, precision, threads and compilation, resolved once.

bfloat16 autocast is taken only where the processor multiplies bfloat16 itself; elsewhere it is emulated, and slower
than float32. Measured on one thread of a Xeon with AMX, training steps of 16 x 128 tokens, bfloat16 over float32: 1.0
at 35k parameters, 1.1 at 160k, 1.3 at 470k, 1.5 at 1M, 1.9 at 4.7M.

What is float32 is IEEE float32: TensorFloat-32 is taken only beside bfloat16, which rounds more than it does.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import platform
import resource
import shutil
import sys
import sysconfig
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import torch

from crossover.trainers.config import ExecutionConfig
from crossover.trainers.errors import ConfigError

__all__ = ["Runtime", "peak_memory_bytes", "resolve"]

Precision = Literal["float32", "bfloat16"]

_THREADS_GIVEN = torch.get_num_threads()  # before any run changes it: OMP_NUM_THREADS, or torch's own choice
_NATIVE_BFLOAT16 = ("avx512_bf16", "amx_bf16", "bf16")  # x86, x86, Arm
_FASTER_FROM_PARAMS = 100_000
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h

# Training FLOPs of a run from which compiling its blocks repays itself, even if each leg compiles anew. On 2 threads,
# 5M parameters: 30 s for steps that are a fifth faster, and so 4 of the 26 minutes of 5e14 FLOPs. The value for GPUs is
# a guess: some minutes of one.
_COMPILED_FROM_FLOPS = {"cpu": 5e14, "cuda": 3e16}


@dataclass(frozen=True)
class Runtime:
    """What a run was given to compute with."""

    device: torch.device
    precision: Precision
    threads: int
    compile: bool = False

    @cached_property
    def description(self) -> str:
        """The device in words, with its threads if it is a processor."""
        if self.device.type == "cuda":
            return torch.cuda.get_device_name(self.device)
        unit = "thread" if self.threads == 1 else "threads"
        return f"{_processor_name()}, {self.threads} {unit}"

    def activate(self) -> None:
        """Give this process its threads and precision, and start the measure of peak memory anew where possible."""
        torch.set_num_threads(self.threads)
        _keep_freed_memory()
        torch.set_float32_matmul_precision(
            "high" if self.device.type == "cuda" and self.precision == "bfloat16" else "highest"
        )
        if self.compile:
            torch.compiler.reset()  # what earlier runs of this process compiled counts against a limit
        _return_free_memory()
        _reset_peak_memory(self.device)

    def autocast(self) -> torch.autocast:
        """A context in which matrix products run in this precision; a new one at each call."""
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.precision == "bfloat16")


def resolve(config: ExecutionConfig, num_params: int, train_flops: float = 0.0) -> Runtime:
    """Turn wishes into what this machine has; nothing is changed before `Runtime.activate`.

    Args:
        config: device, precision, threads and compilation, or auto.
        num_params: parameters in matrix products: small models gain nothing from bfloat16 on a processor.
        train_flops: of the whole run, whatever of it is done already: only a long one repays compiling.

    Raises:
        ConfigError: CUDA, bfloat16 or compilation is asked for and is not to be had.
    """
    device = _device(config.device)
    precision = _precision(config.precision, device, num_params)
    return Runtime(device, precision, config.threads or _THREADS_GIVEN, _compile(config.compile, device, train_flops))


def peak_memory_bytes(device: torch.device) -> int:
    """Peak memory: of the GPU's allocator, or of the process's resident set.

    Both count since `Runtime.activate`; the resident set since the start of the process where the kernel does not
    let it be reset.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _device(wanted: Literal["auto", "cpu", "cuda"]) -> torch.device:
    available = torch.cuda.is_available()
    if wanted == "cuda" and not available:
        built = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "built without CUDA"
        raise ConfigError(
            f"execution.device is cuda, and torch {torch.__version__} ({built}) sees no CUDA device here: set it to "
            "auto or cpu, or give the worker a GPU (resources.gpus_per_worker) and a CUDA build of torch"
        )
    return torch.device("cuda" if available and wanted != "cpu" else "cpu")


def _precision(wanted: Literal["auto", "float32", "bfloat16"], device: torch.device, num_params: int) -> Precision:
    native = _has_native_bfloat16(device)
    if wanted == "bfloat16" and not native:
        raise ConfigError(
            f"execution.precision is bfloat16, and this {device.type} device has no bfloat16 arithmetic (it would be "
            "emulated, slower than float32): set it to auto or float32"
        )
    if wanted != "auto":
        return wanted
    worth_it = native and (device.type == "cuda" or num_params >= _FASTER_FROM_PARAMS)
    return "bfloat16" if worth_it else "float32"


def _compile(wanted: Literal["auto", "on", "off"], device: torch.device, train_flops: float) -> bool:
    if wanted == "off" or (wanted == "auto" and train_flops < _COMPILED_FROM_FLOPS[device.type]):
        return False
    missing = _missing_for_compilation(device)
    if wanted == "on" and missing is not None:
        raise ConfigError(
            f"execution.compile is on, and {missing}: install it, or set execution.compile to auto or off"
        )
    return missing is None


def _missing_for_compilation(device: torch.device) -> str | None:
    """What torch.compile lacks here; None: nothing. It builds extensions of Python, in C++ or in Triton and C."""
    if device.type == "cuda" and importlib.util.find_spec("triton") is None:
        return "there is no Triton here"
    variable, usual = ("CC", "gcc") if device.type == "cuda" else ("CXX", "g++")
    compiler = os.environ.get(variable, "clang++" if sys.platform == "darwin" else usual)
    if shutil.which(compiler) is None:
        return f"there is no compiler here ({compiler}; the variable {variable} names another)"
    if not Path(sysconfig.get_path("include"), "Python.h").exists():
        return "there are no headers of Python here (Python.h; package python3-dev)"
    return None


def _has_native_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name, False) for name in _NATIVE_BFLOAT16)


def _processor_name() -> str:
    return str(torch.cpu.get_capabilities().get("cpu_name") or platform.processor() or platform.machine())


def _keep_freed_memory() -> None:
    """Have glibc keep what a step frees for the next one, instead of giving it back to the system each time.

    On the main thread a step of 5M parameters and 4,096 tokens took 54,000 page faults, an eighth of its time; now
    1,000. `_return_free_memory` gives back what a whole run has freed.
    """
    with suppress(AttributeError, OSError):  # no glibc
        adjust = ctypes.CDLL(None).mallopt
        adjust(_M_MMAP_THRESHOLD, 1 << 25)  # the most that glibc takes; larger blocks are mapped each time
        adjust(_M_TRIM_THRESHOLD, (1 << 31) - 1)


def _return_free_memory() -> None:
    """Back to the system with what earlier runs of this process freed.

    glibc keeps a pool of free memory for each thread, and in a reused worker every run is a new thread: after 8 short
    runs of 0.4M parameters the process held 613 MB, and 465 after this.
    """
    with suppress(AttributeError, OSError):  # no glibc
        ctypes.CDLL(None).malloc_trim(0)


def _reset_peak_memory(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    with suppress(OSError):  # no Linux, or a kernel that does not let it
        Path("/proc/self/clear_refs").write_text("5")  # resets the high-water mark of the resident set: proc(5)
