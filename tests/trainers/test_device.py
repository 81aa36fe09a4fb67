from __future__ import annotations

import os
import platform
import resource
import sys
import threading
from pathlib import Path

import pytest
import torch

from crossover.trainers.config import ExecutionConfig
from crossover.trainers.device import Runtime, peak_memory_bytes, resolve
from crossover.trainers.errors import ConfigError

CPU = torch.device("cpu")
BIG, SMALL = 5_000_000, 30_000


def pretend(monkeypatch: pytest.MonkeyPatch, **capabilities: object) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.mark.parametrize("flag", ["avx512_bf16", "amx_bf16", "bf16"])
def test_automatic_precision_is_bfloat16_where_the_processor_has_it(flag: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, avx2=True, **{flag: True})
    assert resolve(ExecutionConfig(), BIG).precision == "bfloat16"


def test_automatic_precision_is_float32_where_bfloat16_would_be_emulated(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, avx2=True, avx512_bf16=False)
    assert resolve(ExecutionConfig(), BIG).precision == "float32"


def test_small_models_stay_in_float32_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, avx512_bf16=True)
    assert resolve(ExecutionConfig(), SMALL).precision == "float32"
    assert resolve(ExecutionConfig(precision="bfloat16"), SMALL).precision == "bfloat16"
    assert resolve(ExecutionConfig(precision="float32"), BIG).precision == "float32"


def test_bfloat16_asked_of_a_processor_without_it_is_refused_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, avx2=True)
    with pytest.raises(ConfigError, match=r"execution\.precision is bfloat16.*set it to auto or float32"):
        resolve(ExecutionConfig(precision="bfloat16"), BIG)


@pytest.mark.skipif(not Path("/proc/cpuinfo").exists(), reason="needs the Linux kernel's list of processor flags")
def test_native_bfloat16_is_what_the_kernel_says_of_this_processor() -> None:
    flags = set(Path("/proc/cpuinfo").read_text().split())
    expected = "bfloat16" if flags & {"avx512_bf16", "amx_bf16", "bf16"} else "float32"
    assert resolve(ExecutionConfig(device="cpu"), BIG).precision == expected


def test_cuda_where_there_is_none_is_refused_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch)
    with pytest.raises(ConfigError, match=r"execution\.device is cuda.*set it to auto or cpu"):
        resolve(ExecutionConfig(device="cuda"), BIG)


def test_automatic_device_is_the_processor_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch)
    assert resolve(ExecutionConfig(), BIG).device == CPU


LONG, SHORT = 1e18, 1e13  # training FLOPs


def without_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")


def with_compiler(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setenv("CXX", sys.executable)  # any program
    (folder / "Python.h").touch()
    monkeypatch.setattr("sysconfig.get_path", lambda name: str(folder))


def test_long_runs_are_compiled_and_short_ones_are_not(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pretend(monkeypatch)
    with_compiler(monkeypatch, tmp_path)
    assert resolve(ExecutionConfig(), BIG, LONG).compile
    assert not resolve(ExecutionConfig(), BIG, SHORT).compile
    assert not resolve(ExecutionConfig(compile="off"), BIG, LONG).compile
    assert resolve(ExecutionConfig(compile="on"), BIG, SHORT).compile


def test_without_a_compiler_nothing_is_compiled_unless_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch)
    without_compiler(monkeypatch)
    assert not resolve(ExecutionConfig(), BIG, LONG).compile
    with pytest.raises(
        ConfigError, match=r"compile is on.*no-such-compiler.*CXX.*set execution.compile to auto or off"
    ):
        resolve(ExecutionConfig(compile="on"), BIG, LONG)


def test_without_the_headers_of_python_compilation_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pretend(monkeypatch)
    with_compiler(monkeypatch, tmp_path)
    (tmp_path / "Python.h").unlink()
    with pytest.raises(ConfigError, match=r"execution\.compile is on.*python3-dev"):
        resolve(ExecutionConfig(compile="on"), BIG, LONG)


def test_float32_is_ieee_float32_whatever_was_set_before() -> None:
    torch.set_float32_matmul_precision("medium")
    resolve(ExecutionConfig(device="cpu", threads=torch.get_num_threads()), BIG).activate()
    assert torch.get_float32_matmul_precision() == "highest"


def test_threads_of_one_run_are_not_left_to_the_next_in_the_same_process() -> None:
    before, given = torch.get_num_threads(), int(os.environ["OMP_NUM_THREADS"])
    try:
        resolve(ExecutionConfig(threads=given + 1), BIG).activate()
        assert torch.get_num_threads() == given + 1
        resolve(ExecutionConfig(), BIG).activate()
        assert torch.get_num_threads() == given
    finally:
        torch.set_num_threads(before)


def test_resolving_changes_nothing() -> None:
    before = torch.get_num_threads()
    resolve(ExecutionConfig(threads=before + 1), BIG)
    assert torch.get_num_threads() == before


def test_description_names_processor_and_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, cpu_name="Example 9000")
    assert resolve(ExecutionConfig(threads=1), BIG).description == "Example 9000, 1 thread"
    assert resolve(ExecutionConfig(threads=4), BIG).description == "Example 9000, 4 threads"


@pytest.mark.parametrize(("precision", "expected"), [("float32", torch.float32), ("bfloat16", torch.bfloat16)])
def test_matrix_products_run_in_the_precision(precision: str, expected: torch.dtype) -> None:
    runtime = Runtime(CPU, precision, 1)  # type: ignore[arg-type]
    for _ in range(2):
        with runtime.autocast():
            assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == expected


def test_peak_memory_holds_what_was_freed_again() -> None:
    before = peak_memory_bytes(CPU)
    block = torch.ones(before // 4 + 10_000_000)  # float32: as large as the peak, and 40 MB
    del block
    assert peak_memory_bytes(CPU) >= before + 30_000_000


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets a process reset its high-water mark")
def test_activation_starts_the_measure_of_peak_memory_anew() -> None:
    block = torch.ones(50_000_000)
    with_block = peak_memory_bytes(CPU)
    del block
    resolve(ExecutionConfig(device="cpu", threads=torch.get_num_threads()), BIG).activate()
    if not os.access("/proc/self/clear_refs", os.W_OK):
        pytest.skip("this kernel has no writable /proc/self/clear_refs")
    assert peak_memory_bytes(CPU) < with_block - 100_000_000


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc keeps what threads have freed")
def test_activation_returns_what_the_thread_of_an_earlier_run_freed() -> None:
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    kept: list[bytearray] = []

    def run() -> None:
        blocks = [bytearray(20_000) for _ in range(5_000)]
        kept.extend(blocks[::100])

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    before = resident()
    resolve(ExecutionConfig(device="cpu", threads=torch.get_num_threads()), BIG).activate()
    assert resident() < before - 50_000_000


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc gives back what is freed at every step")
def test_memory_that_a_step_frees_is_there_for_the_next() -> None:
    resolve(ExecutionConfig(device="cpu", threads=torch.get_num_threads()), BIG).activate()

    def faults_of_a_step() -> int:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        blocks = [torch.ones(2_000_000) for _ in range(20)]  # 8 MB each
        del blocks
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    faults_of_a_step()
    assert min(faults_of_a_step() for _ in range(5)) < 10_000  # of 39,000 pages, whatever else the process does


@pytest.mark.gpu
@pytest.mark.parametrize(("precision", "tf32"), [("float32", False), ("bfloat16", True)])
def test_tensorfloat_is_taken_beside_bfloat16_only(precision: str, tf32: bool) -> None:
    resolve(ExecutionConfig(device="cuda", precision=precision), BIG).activate()  # type: ignore[arg-type]
    assert (torch.get_float32_matmul_precision() == "high") == tf32


@pytest.mark.gpu
def test_gpu_is_taken_when_there_is_one_and_named() -> None:
    runtime = resolve(ExecutionConfig(), SMALL)
    assert runtime.device.type == "cuda"
    assert runtime.description == torch.cuda.get_device_name()
    runtime.activate()
    block = torch.ones(10_000_000, device=runtime.device)
    del block
    assert peak_memory_bytes(runtime.device) >= 40_000_000
