"""How many threads run captured steps, and how they run together."""

from __future__ import annotations

import os
import signal
import threading
import time
from itertools import pairwise

import pytest

import mlp
from mlp.backends import get_backend
from mlp.backends.threads import TRIAL_SHARE, Team, ThreadChoice, thread_limit
from mlp.errors import InvalidSetting

SECONDS = 60  # after which something that should have ended hangs


# --- the limit ------------------------------------------------------------------------------------


@pytest.fixture
def processors(monkeypatch):
    """Eight processors, and an environment that says nothing."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("processors")
@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, 8),
        ({"OMP_NUM_THREADS": "3"}, 3),
        ({"OMP_NUM_THREADS": "4,2"}, 4),
        ({"OMP_NUM_THREADS": " 5 , 2"}, 5),
        ({"OMP_NUM_THREADS": ""}, 8),
        ({"OMP_NUM_THREADS": "64"}, 8),
        ({"NUMBA_NUM_THREADS": "2"}, 2),
        ({"OMP_NUM_THREADS": "3", "NUMBA_NUM_THREADS": "2"}, 2),
        ({"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "2"}, 1),
    ],
)
def test_limit_of_the_environment(environment, expected, monkeypatch):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert thread_limit() == expected
    assert thread_limit(5) == 5  # what is asked for goes before all


@pytest.mark.usefixtures("processors")
@pytest.mark.parametrize("name", ["OMP_NUM_THREADS", "NUMBA_NUM_THREADS"])
@pytest.mark.parametrize("value", ["0", "-1", "two", "1.5", "0,4"])
def test_an_environment_that_makes_no_sense(name, value, monkeypatch):
    monkeypatch.setenv(name, value)
    with pytest.raises(InvalidSetting, match=f"{name} must be at least 1, not '"):
        thread_limit()


@pytest.mark.parametrize("threads", [0, -1, 1.5, "2", True, [2]])
def test_a_number_of_threads_that_makes_no_sense(threads):
    with pytest.raises(InvalidSetting, match="threads must be a positive whole number"):
        thread_limit(threads)
    mlp.Network(2, [mlp.Dense(1)], device="cpu", threads=1)  # which equals True
    with pytest.raises(InvalidSetting, match="threads must be a positive whole number"):
        mlp.Network(2, [mlp.Dense(1)], device="cpu", threads=threads)


def test_processors_where_a_process_cannot_be_bound_to_some(monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert thread_limit() == 6
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert thread_limit() == 1


def test_threads_of_a_network():
    assert mlp.Network(2, [mlp.Dense(1)], device="cpu", threads=3).backend.threads == 3
    assert get_backend("cpu", threads=3) is get_backend("cpu", threads=3)
    with pytest.raises(InvalidSetting, match="threads can be set for device 'cpu' alone"):
        mlp.Network(2, [mlp.Dense(1)], device="numpy", threads=1)


# --- the choice -----------------------------------------------------------------------------------


class Machine:
    """Steps that take as long as it is told, on a clock of its own."""

    def __init__(self, seconds: dict[int, float]) -> None:
        self.seconds = seconds  # of one step, by the number of threads
        self.now = 0.0
        self.ran: list[tuple[int, int, int]] = []

    def run(self, first: int, stop: int, threads: int) -> None:
        self.ran.append((first, stop, threads))
        self.now += (stop - first) * self.seconds[threads]

    def spent(self) -> dict[int, float]:
        """Seconds by the number of threads."""
        spent = dict.fromkeys(self.seconds, 0.0)
        for first, stop, threads in self.ran:
            spent[threads] += (stop - first) * self.seconds[threads]
        return spent


def choice_on(machine, flops=1e6, limit=None):
    return ThreadChoice(limit or max(machine.seconds), flops, lambda: machine.now)


def run_slices(choice, machine, slices=400, steps=50):
    for i in range(slices):
        choice.run(machine.run, i * steps, (i + 1) * steps)


COSTS = [
    {1: 1e-4},
    {1: 1e-4, 2: 6e-5},
    {1: 1e-4, 2: 2e-4},
    {1: 1e-3, 2: 6e-4, 3: 5e-4},
    {1: 1e-3, 2: 6e-4, 4: 4e-4, 8: 9e-4},
    {1: 1e-2, 2: 2e-2, 4: 3e-2, 6: 4e-2},
]


@pytest.mark.parametrize("flops", [0, 1e6, 1e12])
@pytest.mark.parametrize("costs", COSTS)
def test_the_fastest_number_is_found(costs, flops):
    machine = Machine(costs)
    choice = choice_on(machine, flops)
    run_slices(choice, machine)
    assert choice.best == min(costs, key=costs.get)


@pytest.mark.parametrize("flops", [0, 1e12])
@pytest.mark.parametrize("costs", COSTS)
def test_every_step_runs_once_and_in_order(costs, flops):
    machine = Machine(costs)
    run_slices(choice_on(machine, flops), machine)
    assert machine.ran[0][0] == 0
    assert machine.ran[-1][1] == 400 * 50
    assert all(first < stop for first, stop, _ in machine.ran)
    assert all(before[1] == after[0] for before, after in pairwise(machine.ran))


@pytest.mark.parametrize("limit", range(1, 20))
@pytest.mark.parametrize("flops", [0, 1e6, 1e15, float("inf")])
def test_no_more_threads_than_allowed(limit, flops):
    machine = Machine({n: 1e-3 / n for n in range(1, limit + 1)})
    choice = choice_on(machine, flops, limit)
    run_slices(choice, machine)
    assert {threads for *_, threads in machine.ran} <= set(range(1, limit + 1))
    assert choice.best == limit


@pytest.mark.parametrize("costs", COSTS)
def test_trials_cost_a_small_share_of_the_time(costs):
    machine = Machine(costs)
    choice = choice_on(machine)
    run_slices(choice, machine)  # until it has settled
    machine.ran.clear()
    run_slices(choice, machine, slices=4000)
    spent = machine.spent()
    elsewhere = sum(spent.values()) - spent[choice.best]
    dearest = max(((stop - first) * costs[n] for first, stop, n in machine.ran if n != choice.best),
                  default=0.0)  # fmt: skip
    assert elsewhere <= TRIAL_SHARE * sum(spent.values()) + 2 * dearest
    assert len(costs) == 1 or elsewhere > 0  # it goes on trying


def test_the_choice_follows_the_machine():
    machine = Machine({1: 1e-4, 2: 6e-5})
    choice = choice_on(machine)
    run_slices(choice, machine)
    assert choice.best == 2
    machine.seconds = {1: 1e-4, 2: 5e-4}  # someone else has taken a processor
    run_slices(choice, machine)
    assert choice.best == 1


def test_a_clock_that_stands_still():
    machine = Machine({1: 0.0, 2: 0.0})
    run_slices(choice_on(machine), machine)
    assert machine.ran[-1][1] == 400 * 50


# --- the team -------------------------------------------------------------------------------------


def ended(function):
    """Runs a function that might hang: fails if it does."""
    raised = []

    def run():
        try:
            function()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(SECONDS)
    assert not thread.is_alive(), "it hangs"
    if raised:
        raise raised[0]


@pytest.mark.parametrize("sizes", [[1], [2], [5], [1, 3, 2, 4, 1]])
def test_all_parts_run_at_once(sizes):
    team = Team()
    for size in sizes:
        meeting = threading.Barrier(size, timeout=SECONDS)
        ran = []

        def work(thread, threads, meeting=meeting, ran=ran):
            meeting.wait()
            ran.append((thread, threads, threading.get_ident()))

        team.run(work, size)
        assert sorted(part[:2] for part in ran) == [(i, size) for i in range(size)]
        assert len({ident for *_, ident in ran}) == size


@pytest.mark.parametrize("failing", [0, 1, 2])
def test_an_exception_of_a_part_is_raised_when_all_have_ended(failing):
    team, ran = Team(), []
    release = threading.Event()

    def work(thread, threads):
        if thread == failing:
            release.set()
            raise ValueError(f"part {thread}")
        assert release.wait(SECONDS)
        time.sleep(0.02)
        ran.append(thread)

    with pytest.raises(ValueError, match=f"part {failing}"):
        ended(lambda: team.run(work, 3))
    assert len(ran) == 2
    assert_works(team)


def assert_works(team, size=3):
    ran = []
    ended(lambda: team.run(lambda thread, _: ran.append(thread), size))
    assert sorted(ran) == list(range(size))


@pytest.mark.parametrize("allowed", [0, 1, 2])
def test_a_thread_that_cannot_be_started_is_not_waited_for(allowed, monkeypatch):
    team, ran, left = Team(), [], [allowed]
    start = threading.Thread.start

    def limited(thread):
        if thread.name.startswith("mlp"):
            if not left[0]:
                raise RuntimeError("can't start new thread")
            left[0] -= 1
        start(thread)

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", limited)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            ended(lambda: team.run(lambda thread, _: ran.append(thread), 3))
    assert ran == []
    assert_works(team)
    assert ran == []  # nor does what failed begin later


def test_teams_of_two_callers_take_turns():
    team, most, inside = Team(), [], []

    def work(thread, threads):
        inside.append(thread)
        most.append(len(inside))
        inside.remove(thread)

    callers = [threading.Thread(target=team.run, args=(work, 2)) for _ in range(8)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(SECONDS)
        assert not caller.is_alive()
    assert max(most) <= 2
    assert len(most) == 16


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="no signals to one thread here")
def test_an_interrupt_is_raised_when_all_have_ended(monkeypatch):
    team, interrupted, finished = Team(), threading.Event(), []

    def on_signal(*_):
        interrupted.set()
        raise KeyboardInterrupt

    def work(thread, threads):
        if thread == 0:
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        assert interrupted.wait(SECONDS)
        time.sleep(0.02)
        finished.append(thread)

    before = signal.signal(signal.SIGINT, on_signal)
    try:
        with pytest.raises(KeyboardInterrupt):
            team.run(work, 3)
    finally:
        signal.signal(signal.SIGINT, before)
    assert sorted(finished) == [0, 1, 2]
    assert_works(team)
