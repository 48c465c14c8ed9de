"""How the report draws: graphs in layers, calls in lanes, and figures in words."""

from __future__ import annotations

import doctest
from itertools import combinations, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypernodes import Pipeline, node
from hypernodes._dispatch.place import Worker
from hypernodes.telemetry._report import words
from hypernodes.telemetry._report.drawing import picture_of
from hypernodes.telemetry._report.lanes import Block, Timeline
from hypernodes.telemetry._report.layered import GAP, LAYER_GAP, draw
from hypernodes.telemetry._report.record import Slowest
from hypernodes.telemetry._report.timeline import _nice, _tick

BOX = (100.0, 40.0)
HERE = Worker("MainThread", 1, "host")


@st.composite
def graphs(draw_from):
    count = draw_from(st.integers(1, 24))
    pairs = list(combinations(range(count), 2))
    edges = draw_from(st.lists(st.sampled_from(pairs), unique=True, max_size=40)) if pairs else []
    heights = draw_from(st.lists(st.sampled_from([40.0, 90.0]), min_size=count, max_size=count))
    return [(100.0, height) for height in heights], edges


def rectangles(sizes, drawing):
    return [(x, y, x + w, y + h) for (w, h), (x, y) in zip(sizes, drawing.corners, strict=True)]


@given(graphs())
def test_boxes_keep_their_distance_and_edges_lead_down(graph):
    sizes, edges = graph
    drawing = draw(sizes, edges, 400.0)
    boxes = rectangles(sizes, drawing)
    for one, other in combinations(boxes, 2):
        apart = one[2] + GAP - 0.01 <= other[0] or other[2] + GAP - 0.01 <= one[0]
        over = one[3] + LAYER_GAP - 0.01 <= other[1] or other[3] + LAYER_GAP - 0.01 <= one[1]
        assert apart or over
    for left, top, right, bottom in boxes:
        assert left >= -0.01
        assert top >= 0
        assert right <= drawing.width + 0.01
        assert bottom <= drawing.height
    for (source, target), points in zip(edges, drawing.edges, strict=True):
        heights = [y for _, y in points]
        assert heights == sorted(heights)
        assert points[0][1] == boxes[source][3]
        assert points[-1][1] == boxes[target][1]


@given(graphs())
def test_edges_lead_through_no_box(graph):
    sizes, edges = graph
    drawing = draw(sizes, edges, 400.0)
    boxes = rectangles(sizes, drawing)
    for points in drawing.edges:
        for (x, above), (end, below) in pairwise(points):
            assert x != end or not any(hits(box, x, above, below) for box in boxes)


def hits(box, x, above, below):
    left, top, right, bottom = box
    return left < x < right and above < bottom and top < below


@given(graphs())
def test_no_layer_is_wider_than_it_may_be(graph):
    sizes, edges = graph
    drawing = draw(sizes, edges, 400.0)
    tops = [y for _, y in drawing.corners]
    assert max(tops.count(top) for top in tops) <= 3


def test_a_chain_is_straight():
    drawing = draw([BOX] * 5, [(n, n + 1) for n in range(4)], 400.0)
    assert {round(x, 3) for x, _ in drawing.corners} == {0.0}
    assert drawing.width == pytest.approx(100.0)


def test_a_diamond_is_even():
    drawing = draw([BOX] * 4, [(0, 1), (0, 2), (1, 3), (2, 3)], 400.0)
    (top, _), (left, _), (right, _), (bottom, _) = drawing.corners
    assert top == pytest.approx(bottom)
    assert left + right == pytest.approx(2 * top)


def test_edges_that_need_not_cross_do_not():
    drawing = draw([BOX] * 6, [(0, 5), (1, 4), (2, 3)], 400.0)
    xs = [x for x, _ in drawing.corners]
    order = sorted(range(3), key=lambda v: xs[v])
    assert sorted(range(3), key=lambda v: xs[5 - v]) == order


def test_nothing_to_draw_takes_no_room():
    assert draw([], [], 400.0).height == 0


def test_pipelines_inside_are_frames_around_their_nodes():
    inner = Pipeline([node("b")(lambda a: a), node("c")(lambda b: b)], name="inner")
    outer = Pipeline([node("a")(lambda x: x), inner, node("d")(lambda c: c)], name="outer")
    picture = picture_of(outer, ("outer",))
    boxes = {box.name: box for box in picture.boxes}
    frame = boxes["inner"]
    assert frame.is_frame
    for name in ("b", "c"):
        box = boxes[name]
        assert frame.x < box.x
        assert box.x + box.width < frame.x + frame.width
        assert frame.y < box.y
        assert box.y + box.height < frame.y + frame.height
    assert len(picture.lines) == 3


def test_a_pipeline_of_nothing_is_drawn_as_nothing():
    assert picture_of(Pipeline([]), ("empty",)).boxes == []


# ---------------------------------------------------------------- lanes


def calls(*spans, key="a"):
    return [Block(start, end, key, end - start) for start, end in spans]


def rows_of(timeline):
    return [
        [(b.start, b.end) for b in row] for lane in timeline.lanes.values() for row in lane.rows
    ]


def test_calls_after_one_another_share_a_row_and_others_do_not():
    timeline = Timeline(100, 10, 10)
    for block in calls((0, 1), (1, 2), (0.5, 2.5)):
        timeline.add(HERE, block)
    assert rows_of(timeline) == [[(0, 1), (1, 2)], [(0.5, 2.5)]]


def test_rows_that_there_is_no_room_for_are_counted():
    timeline = Timeline(100, 10, 2)
    for block in calls((0, 1), (0, 2), (0, 3), (0, 4)):
        timeline.add(HERE, block)
    (lane,) = timeline.lanes.values()
    assert (len(lane.rows), lane.unseen, lane.calls) == (2, 2, 4)


def test_workers_that_there_is_no_room_for_are_counted():
    timeline = Timeline(100, 2, 2)
    for number in range(5):
        timeline.add(HERE._replace(process=number), Block(0, 1, "a", 1))
    assert len(timeline.lanes) == 2
    assert len(timeline.other_workers) == 3
    assert (timeline.others.calls, timeline.others.busy) == (3, 3)


@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.floats(0.001, 1), st.floats(0, 1), st.booleans()),
        max_size=200,
    ),
    st.integers(1, 30),
)
def test_blocks_are_few_and_no_call_is_lost(spans, most):
    timeline = Timeline(most, 10, 10)
    now = dict.fromkeys(range(4), 0.0)
    for process, length, pause, failed in spans:
        start = now[process] + pause
        now[process] = start + length
        block = Block(start, now[process], length > 0.5, length, failed=int(failed))
        timeline.add(HERE._replace(process=process), block)
    rows = [row for lane in timeline.lanes.values() for row in lane.rows]
    blocks = [block for row in rows for block in row]
    assert len(blocks) <= max(most, len(rows))
    assert sum(block.calls for block in blocks) == len(spans)
    assert sum(block.failed for block in blocks) == sum(failed for *_, failed in spans)
    assert sum(block.busy for block in blocks) == pytest.approx(sum(s for _, s, *_ in spans))
    for row in rows:
        assert all(one.end <= other.start for one, other in pairwise(row))


def test_a_block_of_several_nodes_is_of_none():
    one, other = calls((0, 1))[0], calls((1, 2), key="b")[0]
    one.take(other)
    assert (one.key, one.end, one.calls) == (None, 2, 2)


@given(st.lists(st.floats(0, 100)), st.integers(0, 6))
def test_the_slowest_are_kept(durations, size):
    slowest = Slowest(size)
    for duration in durations:
        if slowest.wants(duration):
            slowest.add(duration, duration)
    assert slowest.entries() == sorted(durations, reverse=True)[:size]


# ---------------------------------------------------------------- words


def test_the_examples_in_the_docstrings_hold():
    assert doctest.testmod(words).failed == 0


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (0.00099949, "999 µs"),
        (0.0009996, "1.00 ms"),
        (0.9996, "1.00 s"),
        (9.996, "10.0 s"),
        (59.96, "1 min 00 s"),
        (3599.7, "1 h 00 min"),
        (90000, "25 h 00 min"),
    ],
)
def test_durations_have_the_unit_that_suits_them(seconds, told):
    assert words.duration(seconds) == told


@pytest.mark.parametrize(
    ("part", "told"), [(0, "0 %"), (0.001, "< 1 %"), (0.5, "50 %"), (1, "100 %"), (2, "100 %")]
)
def test_shares_are_in_per_cent(part, told):
    assert words.share(part, 1) == told


def test_a_share_of_nothing_is_nothing():
    assert words.share(1, 0) == "0 %"


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(0, "0 s"), (0.05, "50 ms"), (2.5, "2.5 s"), (1, "1 s"), (120, "2 min 00 s")],
)
def test_ticks_are_told_shortly(seconds, told):
    assert _tick(seconds) == told


@given(st.floats(1e-6, 10**7))
def test_steps_of_ticks_are_round_and_large_enough(seconds):
    assert seconds * 0.99 <= _nice(seconds) <= max(10 * seconds, 86_400 + seconds)


def test_a_long_trace_is_shortened_in_the_middle():
    with pytest.raises(ValueError, match="xxx") as caught:
        raise ValueError("x" * 50_000)
    trace = words.trace_of(caught.value)
    assert len(trace) < words.LONGEST_TRACE + 100
    assert trace.startswith("Traceback")
    assert "left out here" in trace
