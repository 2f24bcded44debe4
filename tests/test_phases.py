"""The stopwatch of a generation, with a clock that is set by hand."""

from types import SimpleNamespace

import pytest

from ticketsearch.evolution import timing as phases
from ticketsearch.evolution.timing import EVOLUTION_PHASES, FITNESS, KEYS, REST, Phases

pytestmark = pytest.mark.slow


@pytest.fixture
def clock(monkeypatch):
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(phases, "time", SimpleNamespace(perf_counter=lambda: clock.now))
    return clock


def spend(watch, clock, name, seconds):
    with watch.measure(name):
        clock.now += seconds


def test_times_add_up_by_phase_and_what_no_phase_took_is_the_rest(clock):
    watch = Phases()
    spend(watch, clock, KEYS, 1)
    clock.now += 4
    spend(watch, clock, FITNESS, 2)
    spend(watch, clock, KEYS, 8)
    assert watch.stop() == {KEYS: 9, FITNESS: 2, REST: 4}


def test_a_start_forgets_what_was_before(clock):
    watch = Phases()
    spend(watch, clock, KEYS, 1)
    clock.now += 50
    watch.start()
    spend(watch, clock, FITNESS, 2)
    assert watch.stop() == {FITNESS: 2, REST: 0}


def test_a_phase_that_fails_is_measured_too(clock):
    watch = Phases()

    def failing():
        with watch.measure(KEYS):
            clock.now += 3
            raise KeyError

    with pytest.raises(KeyError):
        failing()
    assert watch.stop()[KEYS] == 3


def test_parts_are_taken_out_of_their_phase(clock):
    watch = Phases()
    spend(watch, clock, FITNESS, 10)
    watch.divide(FITNESS, {"training": 6, "validation": 1})
    assert watch.stop() == {FITNESS: 3, "training": 6, "validation": 1, REST: 0}


def test_parts_of_threads_side_by_side_shrink_to_the_time_that_passed(clock):
    watch = Phases()
    spend(watch, clock, FITNESS, 10)
    watch.divide(FITNESS, {"training": 30, "validation": 10})
    assert watch.stop() == {FITNESS: 0, "training": 7.5, "validation": 2.5, REST: 0}


@pytest.mark.parametrize("parts", [{}, {"training": 0.0}])
def test_no_parts_leave_the_phase_as_it_is(clock, parts):
    watch = Phases()
    spend(watch, clock, FITNESS, 10)
    watch.divide(FITNESS, parts)
    assert watch.stop() == {FITNESS: 10, **parts, REST: 0}


def test_the_fitness_is_not_the_evolutions_own_work():
    assert FITNESS not in EVOLUTION_PHASES
    assert {KEYS, REST, phases.OPERATORS, phases.SELECTION, phases.STORE} == set(EVOLUTION_PHASES)
