"""Every kernel becomes machine code for every generation of devices, and fits them."""

from dataclasses import dataclass

import pytest

from mlp_kernels.cuda.compile import Kernel
from mlp_kernels.cuda.launch import Launch
from tests.nvrtc.compile import (
    TARGETS,
    USUAL_TARGETS,
    CompileFailed,
    Usage,
    compile_all,
    compile_kernel,
    parse_usage,
    why_no_compiler,
    why_no_target,
)
from tests.nvrtc.variants import SHARED, everything, heaviest, runs_on

NO_COMPILER = why_no_compiler()
needs_compiler = pytest.mark.skipif(NO_COMPILER is not None, reason=str(NO_COMPILER))

# The target for which all kernels are compiled; others get the heaviest, which is quicker.
OF_ALL = 90
REGISTERS = 64 * 1024  # of a multiprocessor, whose warps get them in multiples of 8 a thread


@dataclass(frozen=True)
class Compiled:
    target: int
    launches: dict[Kernel, Launch]
    usage: dict[Kernel, Usage]
    errors: list[str]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "compiled" in metafunc.fixturenames:
        # The option is unknown where pytest was not started with this folder.
        every = metafunc.config.getoption("--all-architectures", False)
        targets = TARGETS if every else USUAL_TARGETS
        names = [f"sm_{target}" for target in targets]
        metafunc.parametrize("compiled", targets, indirect=True, scope="module", ids=names)


@pytest.fixture(scope="module")
def compiled(request) -> Compiled:
    target = request.param
    if reason := why_no_target(target):
        pytest.skip(reason)
    launches = everything() if target == OF_ALL else heaviest()
    launches = {kernel: launches[kernel] for kernel in launches if runs_on(kernel, target)}
    results = compile_all(launches, target)
    usage = {kernel: result for kernel, result in results.items() if isinstance(result, Usage)}
    errors = [result for result in results.values() if isinstance(result, str)]
    return Compiled(target, launches, usage, errors)


@needs_compiler
def test_every_kernel_compiles(compiled):
    assert not compiled.errors, "\n".join(compiled.errors[:5])
    assert (
        len(compiled.usage) == len(compiled.launches) > (500 if compiled.target == OF_ALL else 50)
    )


@needs_compiler
def test_no_kernel_keeps_registers_or_arrays_in_memory(compiled):
    assert not {str(k): use for k, use in compiled.usage.items() if use.stack or use.spills}


@needs_compiler
def test_the_registers_of_a_block_fit_a_multiprocessor(compiled):
    taken = {
        kernel: -(-use.registers // 8) * 8 * compiled.launches[kernel].block[0]
        for kernel, use in compiled.usage.items()
    }
    assert not {str(kernel): count for kernel, count in taken.items() if count > REGISTERS}


@needs_compiler
def test_the_shared_memory_of_a_block_fits_every_device(compiled):
    taken = {
        kernel: use.shared + compiled.launches[kernel].shared
        for kernel, use in compiled.usage.items()
    }
    limit = SHARED[compiled.target] * 1024
    assert not {str(kernel): count for kernel, count in taken.items() if count > limit}


# --- that faults would be seen ------------------------------------------------------------------


def source(path, body: str) -> Kernel:
    path.write_text(f'extern "C" __global__ void k(int* x, int n) {{ {body} }}')
    return Kernel(str(path), "k")


@needs_compiler
def test_what_does_not_compile_is_an_error(tmp_path):
    with pytest.raises(CompileFailed, match='identifier "y" is undefined'):
        compile_kernel(source(tmp_path / "k.cu", "x[0] = y;"), OF_ALL)


@needs_compiler
def test_arrays_in_memory_and_shared_memory_are_seen(tmp_path):
    local = source(tmp_path / "local.cu", "int a[64]; a[n] = n; for (int& v : a) x[v] = a[*x];")
    assert compile_kernel(local, OF_ALL).stack == 256
    shared = source(tmp_path / "shared.cu", "__shared__ int a[64]; a[n] = *x; *x = a[*x];")
    assert compile_kernel(shared, OF_ALL).shared == 256


def test_the_log_is_read_for_the_kernel_itself():
    log = """ptxas info    : Compiling entry function 'other' for 'sm_90'
ptxas info    : Function properties for other
ptxas         .     8 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 20 registers, used 1 barriers
ptxas info    : Compiling entry function 'k' for 'sm_90'
ptxas info    : Function properties for k
    16 bytes stack frame, 12 bytes spill stores, 20 bytes spill loads
ptxas info    : Used 168 registers, used 1 barriers, 1028 bytes smem, 400 bytes cmem[0]
"""
    assert parse_usage("k", log) == Usage(registers=168, stack=16, spills=32, shared=1028)
    assert parse_usage("other", log) == Usage(registers=20, stack=8, spills=0, shared=0)
