"""python -m tests.nvrtc: registers of the products' kernels, tile by tile, and of narrow chains."""

from __future__ import annotations

from mlp_kernels.cuda.launch import Launch
from mlp_kernels.cuda.types import number_type
from tests.nvrtc.compile import (
    TARGETS,
    Usage,
    compile_all,
    version,
    why_no_compiler,
    why_no_target,
)
from tests.nvrtc.narrow import KINDS
from tests.nvrtc.variants import Operands, every_tile, runs_on


def row(operands: Operands, usage: dict[int, dict]) -> str:
    launches = operands.heaviest()
    macros, (first, *_) = dict(launches[0].kernel.macros), launches
    name = number_type(operands.dtype)
    units = "plain" if not macros["TENSOR"] else "tf32" if name == "float" else "tensor"
    copy = macros["COPY"] or ""  # bytes
    cells = (cell(launches, of_target) for of_target in usage.values())
    return (
        f"| {name} | {units} | {operands.tile.name} | {copy} | {first.block[0]} "
        f"| {first.shared / 1024:g} | {' | '.join(cells)} |"
    )


def cell(launches: tuple[Launch, ...], usage: dict) -> str:
    """Registers of the three, with what is kept in memory, if anything is."""
    found = [usage.get(launch.kernel) for launch in launches]
    texts = []
    for use in found:
        if not isinstance(use, Usage):
            return "does not compile" if use else ""
        memory = use.stack + use.spills
        texts.append(f"{use.registers}" + (f" ({memory} bytes in memory)" if memory else ""))
    return " / ".join(texts)


def print_chains(targets: list[int]) -> None:
    """Registers of narrow_forward and narrow_delta, with GELU and dropout."""
    chains = {kind: tuple(kind.launches(["gelu", "gelu"])[:2]) for kind in KINDS}
    kernels = [launch.kernel for launches in chains.values() for launch in launches]
    usage = {
        target: compile_all((kernel for kernel in kernels if runs_on(kernel, target)), target)
        for target in targets
    }
    print("\nChains of narrow layers, forward and back.\n")
    print(f"| numbers | width | {' | '.join(f'sm_{target}' for target in targets)} |")
    print(f"|{' --- |' * (2 + len(targets))}")
    for kind, launches in chains.items():
        name = "tf32" if kind.device.tf32 else number_type(kind.dtype)
        cells = (cell(launches, of_target) for of_target in usage.values())
        print(f"| {name} | {kind.width} | {' | '.join(cells)} |")


def main() -> None:
    if reason := why_no_compiler():
        raise SystemExit(reason)
    tiles = tuple(every_tile())
    kernels = {launch.kernel: None for operands in tiles for launch in operands.heaviest()}
    targets = [target for target in TARGETS if why_no_target(target) is None]
    usage = {
        target: compile_all((kernel for kernel in kernels if runs_on(kernel, target)), target)
        for target in targets
    }
    print(
        f"NVRTC {version()}: registers of a thread in `linear_forward` (GELU, with a saved z and\n"
        "dropout), `linear_delta` (GELU, with dropout) and `linear_grads`. Shared memory in KiB.\n"
    )
    names = ("numbers", "units", "tile", "copied by", "threads", "shared")
    titles = (*names, *(f"sm_{target}" for target in targets))
    print(f"| {' | '.join(titles)} |")
    print(f"|{' --- |' * len(titles)}")
    for operands in tiles:
        print(row(operands, usage))
    print_chains(targets)


if __name__ == "__main__":
    main()
