"""The simulation of maps on many workers (`benchmarks.scaling`): small cases with known answers."""

import math
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.scaling import rules
from benchmarks.scaling.parts import Chunk, Costs, Outcome, Ranking, SlowItems, Work, Worker
from benchmarks.scaling.simulation import Simulation
from benchmarks.scaling.standin import StandInExecutor
from benchmarks.scaling.tables import Table, in_time, percent
from hypernodes import Pipeline, RuntimeConfig, node
from hypernodes._engine.stream import Stream

FREE = Costs()


def simulate(workers=1, costs=FREE, lifetime=math.inf, deaths=(), seed=0, **work):
    work = Work(**{"items": 100, "seconds": 1.0} | work)
    return Simulation(work, workers, costs, lifetime=lifetime, deaths=deaths, seed=seed).run()


# --- Who is full ----------------------------------------------------------------------------------


def test_one_worker_takes_as_long_as_all_items_together():
    found = simulate(items=100, seconds=0.5)
    assert found.seconds == pytest.approx(50)
    assert found.workers == pytest.approx(1)
    assert found.driver == found.scheduler == 0


def test_workers_share_the_items():
    found = simulate(workers=4, items=100, seconds=1.0)
    assert found.seconds == pytest.approx(25)
    assert found.rate == pytest.approx(4, rel=0.1)


def test_what_a_worker_does_besides_is_no_work_of_an_item():
    costs = Costs(worker_item=1.0, worker_chunk=5.0)
    found = simulate(costs=costs, items=10, seconds=3.0, chunksize=1)
    assert found.seconds == pytest.approx(10 * (3 + 1 + 5))
    assert found.workers == pytest.approx(3 / 9)


def test_the_driver_bounds_items_that_take_nothing():
    costs = Costs(driver_item=0.5, driver_chunk=2.0, driver_worker=1.0)
    found = simulate(workers=3, costs=costs, items=20, seconds=0.0, chunksize=1)
    assert found.seconds == pytest.approx(20 * (0.5 + 2 + 3 * 1.0))
    assert found.driver == pytest.approx(1)


def test_a_chunk_shares_its_cost_among_its_items():
    costs = Costs(driver_item=0.5, driver_chunk=2.0)
    found = simulate(costs=costs, items=20, seconds=0.0, chunksize=10, first=20)
    assert found.chunks == 2
    assert found.seconds == pytest.approx(20 * 0.5 + 2 * 2)


def test_the_scheduler_bounds_chunks():
    found = simulate(workers=50, costs=Costs(scheduler_chunk=1.0), seconds=0.0, chunksize=1)
    assert found.seconds == pytest.approx(100, rel=0.02)
    assert found.scheduler == pytest.approx(1, rel=0.02)


def test_a_lone_chunk_goes_there_and_back():
    found = simulate(costs=Costs(latency=0.25), items=1, seconds=1.0)
    assert found.seconds == pytest.approx(1.5)


def test_who_observes_costs_the_driver():
    found = simulate(items=10, seconds=0.0, tell=2.0, chunksize=1)
    assert found.seconds == pytest.approx(20)


# --- Caches ---------------------------------------------------------------------------------------


def test_items_that_are_found_go_to_nobody():
    found = simulate(items=100, find=0.1, found=1.0)
    assert (found.delivered, found.ran, found.chunks) == (100, 0, 0)
    assert found.seconds == pytest.approx(10)


def test_of_items_the_given_part_is_found():
    found = simulate(items=100, find=0.0, found=0.25)
    assert (found.delivered, found.ran) == (100, 75)


def test_storing_is_up_to_workers():
    assert simulate(items=10, seconds=1.0, store=0.5).seconds == pytest.approx(15)


# --- Order, and slow items ------------------------------------------------------------------------


def test_no_more_items_are_taken_ahead_than_may_be():
    found = simulate(workers=4, items=5_000, seconds=0.001, ahead=100, known=True)
    assert found.furthest <= 100


def test_in_order_a_slow_item_holds_up_all_that_are_too_far_ahead():
    slow = {"items": 1_000, "seconds": 0.1, "slow_share": 0.003, "slow_seconds": 100.0}
    in_order = simulate(workers=10, **slow)
    as_they_finish = simulate(workers=10, ordered=False, **slow)
    assert as_they_finish.seconds < in_order.seconds
    assert as_they_finish.delivered == in_order.delivered == 1_000


def test_what_waits_behind_a_slow_item_runs_elsewhere():
    # The slow one begins after 4.4 seconds; two chunks of five seconds wait behind it.
    work = {"items": 1_000, "seconds": 0.1, "slow_share": 0.001, "slow_seconds": 50.0, "seed": 1}
    found = simulate(workers=4, chunksize=50, ordered=False, first=1_000, **work)
    assert found.seconds == pytest.approx(4.4 + 50.1)
    assert found.seconds * found.workers * 4 == pytest.approx(1_000 * 0.1 + 50)


def test_slow_items_stay_slow_wherever_they_run():
    def places(*chunks):
        items = SlowItems(0.1, Simulation(Work(items=1, seconds=0.0), 1, FREE)._random)
        return [[chunk.first + place for place in items.places(chunk)] for chunk in chunks]

    ((*all_of_them,),) = places(Chunk(0, 200))
    late, early = places(Chunk(100, 100), Chunk(0, 100))
    assert early + late == all_of_them
    assert all_of_them


# --- Workers that die -----------------------------------------------------------------------------


def test_the_chunk_of_a_lost_worker_is_done_again_exactly_once():
    costs = Costs(restart=1.0)
    work = {"items": 2, "seconds": 10.0, "chunksize": 1}
    found = simulate(workers=2, costs=costs, deaths=[(5.0, 0)], **work)
    assert (found.lost, found.again, found.failed) == (1, 1, 0)
    assert (found.delivered, found.ran) == (2, 2)
    assert found.seconds == pytest.approx(5 + 1 + 10)


def test_an_item_that_loses_its_worker_again_has_failed():
    work = {"items": 2, "seconds": 10.0, "chunksize": 1}
    found = simulate(workers=2, costs=Costs(restart=1.0), deaths=[(5.0, 0), (8.0, 0)], **work)
    assert (found.lost, found.again, found.failed) == (2, 1, 1)
    assert found.delivered == 2
    assert found.seconds == pytest.approx(10)


def test_a_worker_that_dies_idle_costs_nothing():
    work = {"items": 1, "seconds": 10.0}
    found = simulate(workers=2, deaths=[(5.0, 1)], **work)
    assert (found.lost, found.again) == (1, 0)
    assert found.seconds == pytest.approx(10)


@pytest.mark.parametrize(("is_isolating", "chunks"), [(True, 1 + 3), (False, 1 + 10)])
def test_of_a_lost_chunk_one_item_runs_alone_where_it_is_known_which(is_isolating, chunks):
    costs = Costs(is_isolating=is_isolating)
    work = {"items": 10, "seconds": 1.0, "chunksize": 10, "first": 10, "seed": 1}
    found = simulate(costs=costs, deaths=[(5.0, 0)], **work)
    assert found.again == 10
    assert found.ran == 10
    assert found.chunks <= chunks
    assert found.chunks > 1


def test_until_the_driver_hears_of_it_nothing_is_done_again():
    costs = Costs(verdict=4.0, restart=1.0)
    found = simulate(costs=costs, items=1, seconds=10.0, deaths=[(5.0, 0)])
    assert found.seconds == pytest.approx(5 + 4 + 10)


# --- Always ---------------------------------------------------------------------------------------

anything = {
    "workers": st.integers(1, 12),
    "items": st.integers(1, 400),
    "seconds": st.sampled_from([0.0, 0.0005, 0.02, 3.0]),
    "chunksize": st.sampled_from([None, 1, 7]),
    "known": st.booleans(),
    "ordered": st.booleans(),
    "spread": st.sampled_from([0.0, 1.0]),
    "slow_share": st.sampled_from([0.0, 0.1, 1.0]),
    "slow_seconds": st.sampled_from([0.1, 9.0]),
    "found": st.sampled_from([0.0, 0.3]),
    "lifetime": st.sampled_from([math.inf, 50.0]),
    "seed": st.integers(0, 9),
    "costs": st.sampled_from(
        [
            FREE,
            Costs(driver_item=1e-6, driver_chunk=1e-4, restart=0.1),
            Costs(scheduler_chunk=1e-3, latency=1e-3, hides=0.04, verdict=2, is_isolating=False),
            Costs(driver_look=1e-4, latency=1e-3, looks=0.004, fresh=0.01, is_isolating=False),
        ]
    ),
}


@given(st.fixed_dictionaries(anything))
def test_no_item_is_lost_or_done_twice(case):
    found = simulate(**case)
    assert found.delivered == case["items"]
    assert found.ran == case["items"] - int(case["items"] * case["found"] + 1e-9)
    assert 0 <= found.workers <= 1 + 1e-9
    assert 0 <= found.driver <= 1 + 1e-9


@given(st.fixed_dictionaries(anything))
def test_a_seed_gives_one_outcome(case):
    assert simulate(**case) == simulate(**case)


def test_other_seeds_give_others():
    assert simulate(spread=1.0, seed=1) != simulate(spread=1.0, seed=2)


# --- The rules are the library's ------------------------------------------------------------------


@pytest.mark.parametrize("at_hand", [0, 15])
def test_items_are_taken_ahead_as_the_library_takes_them(at_hand):
    clock = 0.0
    with rules.on_clock(lambda: clock):
        facts = {"ahead": 20, "farthest": 1_000, "patience": rules.PATIENCE, "at_hand": at_hand}
        items = ({"x": number} for number in count())
        stream = Stream(items, ordered=False, **facts)
        window = rules.Window(10**6, **facts)
        for _ in range(50):
            taken = [*stream.take()]
            assert window.take_count() == len(taken)
            stream.put_all(taken, [{} for _ in taken])
            window.deliver(sum(len(indexes) for indexes, _ in stream.ready()))
            clock += 0.0001
    assert window.ahead == 0
    assert window.taken > 1_000


@pytest.mark.parametrize("workers", [2, 64])
@pytest.mark.parametrize("known", [10, 10**9])
def test_items_that_are_at_hand_are_taken_for_every_worker(workers, known):
    executor = StandInExecutor(places=workers, chunks=0)
    pool = executor.open_workers()
    crew = pool.crew(executor, post=lambda message: message())
    pool.close()
    assert crew.farthest == crew.at_hand == rules.farthest(workers)
    first = max(2 * workers, min(known, crew.at_hand))
    assert rules.first_ahead(workers, known=known) == first


def test_a_map_through_the_pool_that_is_measured_gives_its_results():
    @node(output_name="y")
    def same(x):
        return x

    with StandInExecutor(places=5, chunks=300, chunksize=1) as executor:
        config = RuntimeConfig(executor=executor)
        found = Pipeline([same]).map({"x": range(300)}, map_over="x", config=config)
    assert found == [{"y": number} for number in range(300)]


def test_a_chunk_is_asked_for_what_is_done_every_half_second_while_it_runs():
    costs = Costs(driver_look=1e-6, looks=rules.LOOK, fresh=0.5)
    facts = {"costs": costs, "seconds": 0.0099, "first": 1_000, "chunksize": 100}
    assert simulate(items=100, **facts).looks == 1
    assert simulate(items=300, **facts).looks == 1 + 1 + 2  # the last one has waited, and is due
    assert simulate(items=100, **facts | {"chunksize": 1}).looks == 0


def test_what_is_done_comes_before_the_end_of_its_chunk():
    asked, silent = Costs(driver_look=1e-6, fresh=10.0), Costs()
    facts = {"items": 40, "seconds": 1.0, "chunksize": 40, "first": 40}
    assert simulate(costs=silent, **facts).marks[0] == 40.0
    assert simulate(costs=asked, **facts).marks[0] == pytest.approx(10.0, abs=0.1)


def test_what_was_told_of_a_chunk_is_not_done_again():
    costs = Costs(driver_look=1e-6, fresh=10.0, is_isolating=False)
    facts = {"items": 40, "seconds": 1.0, "chunksize": 40, "first": 40}
    found = simulate(costs=costs, deaths=[(25.0, 0)], **facts)
    assert (found.again, found.ran) == (20, 40)


def test_a_slow_item_holds_up_those_behind_it_in_a_chunk():
    chunk = Chunk(0, 10, each=1.0, slow=[2, 5])
    done = [chunk.done(seconds, 100.0) for seconds in (1.5, 2.5, 102.5, 103.5, 205.5, 206.5, 999)]
    assert done == [1, 2, 2, 3, 5, 6, 10]


def test_what_idle_workers_could_run_is_asked_for_sooner():
    costs = Costs(driver_look=1e-6, looks=0.2, fresh=10.0)
    facts = {"costs": costs, "seconds": 0.0099, "first": 1_000, "chunksize": 100}
    assert simulate(workers=1, items=100, **facts).looks == 0
    assert simulate(workers=2, items=100, **facts).looks == 4


def test_the_rule_for_chunks_is_told_what_waits_and_what_is_under_way(monkeypatch):
    told = []
    monkeypatch.setattr(rules.pace.Pace, "count", lambda _, *facts: told.append(facts) or 3)
    simulate(workers=2, items=10, known=True)
    assert told[:3] == [(10, 2, 0), (7, 2, 3), (4, 2, 6)]


def test_a_crowded_pool_has_chunks_at_every_place():
    from benchmarks.scaling.clusters import of_crowd

    assert [figure.name for figure in of_crowd(3)] == [
        "pool of 3 places, chosen",
        "pool of 3 places, a turn",
    ]


def test_chunks_grow_with_time_as_the_library_has_it():
    few = simulate(workers=2, items=20, seconds=0.0001, known=True)
    many = simulate(workers=2, items=200_000, seconds=0.0001, known=True)
    assert few.ran / few.chunks < many.ran / many.chunks


def test_the_real_clock_is_back_afterwards():
    before = rules.pace.perf_counter, rules.stream.perf_counter
    simulate()
    assert (rules.pace.perf_counter, rules.stream.perf_counter) == before


def test_processes_and_clusters_have_as_many_chunks_waiting():
    assert rules.pool.DEPTH == rules.places.DEPTH


# --- What is made of it ---------------------------------------------------------------------------


def test_a_long_map_is_projected_from_a_short_one():
    costs = Costs(driver_item=1e-5, driver_chunk=1e-3)
    short, long = (
        simulate(workers=10, costs=costs, items=n, seconds=0.01) for n in (5_000, 50_000)
    )
    assert short.projected(50_000) == pytest.approx(long.seconds, rel=0.02)


def test_the_rate_is_that_of_the_middle():
    found = Outcome(seconds=100.0, delivered=80, marks=[10.0, 15.0, 20.0, 25.0])
    assert found.rate == 4
    assert found.projected(120) == 110


def test_the_worker_with_the_fewest_chunks_is_next():
    workers = [Worker(sent=2), Worker(sent=1), Worker(sent=rules.DEPTH)]
    ranking = Ranking(workers)
    assert ranking.first() == 1
    workers[1].is_alive = False
    ranking.note(1)
    assert ranking.first() == 0
    assert not ranking.has_idle


def test_tables_are_markdown():
    table = Table("Title", ("a", "b"), [("1", "2")])
    assert table.text() == "Title\n\n| a | b |\n| --- | --- |\n| 1 | 2 |\n"
    assert [in_time(s) for s in (1.5, 150, 8_000, 10**6)] == [
        "1.5 s",
        "2.5 min",
        "2.22 h",
        "11.6 days",
    ]
    assert [percent(share) for share in (0.05, 0.5, 1.001)] == ["5.0%", "50%", "100%"]
