"""`mlp devices --kernels` where there is no GPU; cuda_host/test_product_choices.py has one."""

from __future__ import annotations

import pytest

from mlp.backends.cuda.listing import LISTED
from tests.cli.conftest import CommandLine
from tests.conftest import NO_GPU

pytestmark = pytest.mark.skipif(NO_GPU is None, reason="there is a GPU")


def test_that_there_is_no_gpu_is_said(run: CommandLine) -> None:
    found = run("devices", "--kernels")
    assert found.code == 0
    assert found.out == f"no kernels to choose among: {NO_GPU}\n"
    assert found.err == ""
    found = run("devices", "--kernels", "--json").json()
    assert set(found) == {*LISTED, "reason"}, "the keys that there are with one"
    assert found["reason"] == NO_GPU
    assert not any(value for key, value in found.items() if key != "reason")


def test_a_named_gpu_that_cannot_be_had_is_an_error(run: CommandLine) -> None:
    found = run("devices", "--kernels", "--device", "cuda")
    assert (found.code, found.out) == (1, "")
    assert str(NO_GPU) in found.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("--kernels", "--device", "cpu"),
            "kernels are chosen on CUDA devices alone, not on 'cpu'",
        ),
        (("--kernels", "--device", "cudax"), "not on 'cudax'"),
        (("--kernels", "--device", "cuda:x"), "unknown device 'cuda:x'"),
        (("--device", "cuda"), "--device goes with --kernels"),
    ],
)
def test_wrong_usage(run: CommandLine, arguments: tuple[str, ...], message: str) -> None:
    found = run("devices", *arguments)
    assert (found.code, found.out) == (2, "")
    assert message in found.err
