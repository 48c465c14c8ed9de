"""The page of a run as a browser shows it: what is seen, said, sorted, and never loaded."""

from __future__ import annotations

import functools
import http.server
import os
import shutil
import threading
from itertools import combinations, pairwise

import pytest

from hypernodes import MemoryCache, Pipeline, RuntimeConfig, node
from hypernodes.telemetry import RunReport

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
KINDS = ["small", "cached", "mapped", "nested", "failed", "large", "fan", "odd"]
SCHEMES = ["light", "dark"]
WIDTHS = [1280, 400]


# ---------------------------------------------------------------- the runs


@node
def load(path):
    return [3, 1, 2]


@node
def tidy(load):
    return sorted(load)


@node
def a_function_with_a_name_that_is_far_longer_than_any_box_has_room_for(tidy):
    return tidy


@node(output_name=("mean", "deviation"))
def statistics(tidy):
    return 2, 1


@node
def result(
    a_function_with_a_name_that_is_far_longer_than_any_box_has_room_for, mean, load, deviation
):
    return mean


@node(retries=1)
def priced(name):
    if name.endswith("7"):
        raise KeyError(name)
    return len(name)


@node
def shipped(priced):
    return priced + 1


@node
def orders(day):
    return [f"order-{n}" for n in range(5)]


@node
def report_of_day(totals, orders):
    return sum(totals)


LONG = a_function_with_a_name_that_is_far_longer_than_any_box_has_room_for
SMALL = Pipeline([load, tidy, LONG, statistics, result], name="small")
ORDER = Pipeline([priced, shipped], name="one_order")
NESTED = Pipeline(
    [
        orders,
        ORDER.as_node(
            map_over="orders",
            input_mapping={"orders": "name"},
            output_mapping={"shipped": "totals"},
        ),
        report_of_day,
    ],
    name="nested",
)


class Odd:
    def __repr__(self):
        return "<script>alert('repr')</script><img src=x onerror=alert(2)>"


def failed(config):
    @node
    def before(x):
        return x

    @node(retries=2)
    def breaks(before, odd):
        raise ValueError("no luck\nand a <b>second</b> line, " + "long " * 80 + "x" * 500)

    @node
    def never(breaks):
        return breaks

    with pytest.raises(ValueError, match="no luck"):
        Pipeline([before, breaks, never], name="failed").run({"x": 1, "odd": Odd()}, config=config)


def large(config):
    sources = [[m for m in (n - 1, n - 5, n // 2) if 0 <= m < n] for n in range(80)]
    nodes = [
        node(f"n{n}")(_taking([f"n{m}" for m in sorted(set(inputs))] or ["x"], n))
        for n, inputs in enumerate(sources)
    ]
    Pipeline(nodes, name="large").run({"x": 1}, config=config)


def _taking(names, number):
    space = {}
    exec(f"def step_{number}({', '.join(names)}): return 1", space)  # noqa: S102 - a function of so many arguments
    return space[f"step_{number}"]


def fan(config):
    blades = [node(f"f{n}")(_taking(["hub"], n)) for n in range(23)]
    hub = node("hub")(lambda x: x)
    rim = node("rim")(_taking([f"f{n}" for n in range(23)], 99))
    Pipeline([hub, *blades, rim], name="fan").run({"x": 1}, config=config)


def odd(config):
    inner = Pipeline([node("out")(lambda x: x)]).as_node(name="<script>alert('node')</script>")
    name = "</title><script>alert('name')</script>" + "x" * 300
    Pipeline([inner], name=name).run({"x": 1}, config=config)


def write_pages(folder):
    """Write a page of each kind."""

    def config(name, **options):
        report = RunReport(folder / f"{name}.html")
        return RuntimeConfig(**{"executor": "thread", "callbacks": [report]} | options)

    SMALL.run({"path": "x"}, config=config("small"))
    cache = MemoryCache()
    SMALL.run({"path": "x"}, config=config("other", cache=cache), output_name="tidy")
    SMALL.run({"path": "x"}, config=config("cached", cache=cache))
    names = {"name": [f"order-{n}" for n in range(60)]}
    ORDER.map(names, map_over="name", on_error="return", config=config("mapped"))
    NESTED.run({"day": 1}, config=config("nested"))
    for write in (failed, large, fan, odd):
        write(config(write.__name__))


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    # In a thread of its own, whatever loop runs in this one.
    writer = threading.Thread(target=write_pages, args=(folder,))
    writer.start()
    writer.join()
    assert {path.stem for path in folder.iterdir()} >= {*KINDS}
    return folder


# ---------------------------------------------------------------- the browser


def missing(reason):
    if os.environ.get("CI"):
        pytest.fail(f"{reason}, and CI is to have both")
    pytest.skip(reason)


@pytest.fixture(scope="module")
def browser(pages):
    try:
        from playwright.sync_api import sync_playwright
    except ModuleNotFoundError:
        missing("playwright is not installed")
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        missing(f"there is no browser: none of {', '.join(BROWSERS)}")
    arguments = [] if os.geteuid() else ["--no-sandbox"]
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=path, args=arguments)
        yield opened
        opened.close()


class Look:
    """A page that is open, and what went on in it."""

    def __init__(self, page):
        self.page = page
        self.told, self.requests, self.dialogs = [], [], []
        page.on("console", lambda message: self.told.append(message.text))
        page.on("pageerror", lambda error: self.told.append(str(error)))
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("dialog", self._dismiss)

    def _dismiss(self, dialog):
        self.dialogs.append(dialog.message)
        dialog.dismiss()

    def box(self, selector):
        """Return the rectangles of all that a selector finds."""
        script = """(found) => found.map((e) => {
            const r = e.getBoundingClientRect();
            return [r.left, r.top, r.right, r.bottom];
        })"""
        return self.page.locator(selector).evaluate_all(script)


@pytest.fixture
def look(browser, pages):
    """Open the page of a kind."""
    contexts = []

    def opened(kind, *, scheme="light", width=1280, url=None, **options):
        viewport = {"width": width, "height": 900}
        context = browser.new_context(color_scheme=scheme, viewport=viewport, **options)
        contexts.append(context)
        made = Look(context.new_page())
        made.page.goto(url or (pages / f"{kind}.html").as_uri())
        return made

    yield opened
    for context in contexts:
        context.close()


def apart(one, other):
    return one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]


def inside(one, other, slack=0.5):
    low = one[0] >= other[0] - slack and one[1] >= other[1] - slack
    return low and one[2] <= other[2] + slack and one[3] <= other[3] + slack


# ---------------------------------------------------------------- what is loaded, and what runs


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_page_loads_nothing_and_has_no_errors(look, pages, kind, scheme):
    shown = look(kind, scheme=scheme)
    shown.page.wait_for_load_state("networkidle")
    assert shown.told == []
    assert shown.requests == [(pages / f"{kind}.html").as_uri()]


def test_a_page_that_is_served_asks_for_nothing_else(look, pages):
    asked = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            asked.append(self.path)

    handler = functools.partial(Handler, directory=pages)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        shown = look("small", url=f"http://127.0.0.1:{server.server_port}/small.html")
        shown.page.wait_for_load_state("networkidle")
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert asked == ["/small.html"]
    assert shown.told == []


def test_the_page_itself_forbids_loading_and_foreign_scripts(look):
    shown = look("small")
    shown.page.evaluate(
        """() => {
            const script = document.createElement('script');
            script.textContent = 'window.foreign = true';
            document.body.append(script);
            const image = document.createElement('img');
            image.src = 'http://127.0.0.1:9/x.png';
            document.body.append(image);
        }"""
    )
    assert shown.page.evaluate("window.foreign") is None
    assert any("Content Security Policy" in told for told in shown.told)


@pytest.mark.parametrize("kind", ["odd", "failed"])
def test_scripts_in_names_and_values_are_text(look, kind):
    shown = look(kind)
    assert shown.page.locator("script").count() == 1
    assert shown.page.locator("img").count() == 0
    assert shown.dialogs == []
    text = shown.page.locator("body").inner_text()
    told = {"odd": ["alert('name')", "alert('node')"], "failed": ["alert('repr')", "<b>second</b>"]}
    for words in told[kind]:
        assert words in text


# ---------------------------------------------------------------- what is seen


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("kind", KINDS)
def test_the_boxes_of_the_graph_are_visible_and_apart(look, kind, width):
    shown = look(kind, width=width)
    boxes, frames = shown.box(".box"), shown.box(".frame")
    (canvas,) = shown.box(".canvas")
    assert boxes
    assert all(right - left > 50 and bottom - top > 30 for left, top, right, bottom in boxes)
    assert all(apart(one, other) for one, other in combinations(boxes, 2))
    assert all(inside(box, canvas) for box in boxes + frames)
    for frame in frames:
        assert all(inside(box, frame) or apart(box, frame) for box in boxes)
    assert all(shown.page.locator(".box").nth(n).is_visible() for n in range(len(boxes)))


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("kind", KINDS)
def test_labels_stay_in_their_boxes(look, kind, width):
    shown = look(kind, width=width)
    for box, name, time in zip(
        shown.box(".box"), shown.box(".box > strong"), shown.box(".box > .time"), strict=True
    ):
        assert inside(name, box)
        assert inside(time, box)
        assert apart(name, time)


@pytest.mark.parametrize("kind", ["failed", "cached", "mapped"])
def test_marks_cover_no_label(look, kind):
    shown = look(kind)
    cover = """(found) => found.map((chip) => {
        const c = chip.getBoundingClientRect();
        const range = document.createRange();
        range.selectNodeContents(chip.closest('.box').querySelector('strong'));
        const n = range.getBoundingClientRect();
        return c.bottom - n.top > 5 && c.left < n.right;
    })"""
    covered = shown.page.locator(".chips").evaluate_all(cover)
    assert covered
    assert not any(covered)


@pytest.mark.parametrize("kind", KINDS)
def test_lines_of_the_graph_cross_no_box(look, kind):
    shown = look(kind)
    hits = shown.page.evaluate(
        """() => {
            const boxes = [...document.querySelectorAll('.box')].map((b) => [
                parseFloat(b.style.left) + 2, parseFloat(b.style.top) + 2,
                parseFloat(b.style.left) + parseFloat(b.style.width) - 2,
                parseFloat(b.style.top) + parseFloat(b.style.height) - 2, b.textContent]);
            const hits = [];
            for (const line of document.querySelectorAll('.line')) {
                const length = line.getTotalLength();
                for (let at = 0; at <= length; at += 8) {
                    const p = line.getPointAtLength(at);
                    for (const [left, top, right, bottom, text] of boxes)
                        if (p.x > left && p.x < right && p.y > top && p.y < bottom) hits.push(text);
                }
            }
            return hits;
        }"""
    )
    assert hits == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_narrow_window_does_not_scroll_sideways(look, kind):
    shown = look(kind, width=400)
    assert shown.page.evaluate("document.documentElement.scrollWidth") <= 400
    for selector in ("h1", ".alert", ".tiles", ".lanes", ".facts"):
        for left, _, right, _ in shown.box(selector):
            assert left >= 0
            assert right <= 400


CONTRAST = """() => {
    // Colours that CSS mixes are told in other notations: a canvas turns any into bytes.
    const one = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
    const parse = (text) => {
        one.clearRect(0, 0, 1, 1);
        one.fillStyle = text;
        one.fillRect(0, 0, 1, 1);
        const [r, g, b, a] = one.getImageData(0, 0, 1, 1).data;
        return [r, g, b, a / 255];
    };
    const over = (top, bottom) => {
        const mixed = [0, 1, 2].map((i) => top[i] * top[3] + bottom[i] * (1 - top[3]));
        return [...mixed, 1];
    };
    const background = (element) => {
        const layers = [];
        for (let e = element; e && layers.at(-1)?.[3] !== 1; e = e.parentElement)
            layers.push(parse(getComputedStyle(e).backgroundColor));
        return layers.reduceRight((under, layer) => over(layer, under), [255, 255, 255, 1]);
    };
    const light = ([r, g, b]) => {
        const [x, y, z] = [r, g, b].map((v) => {
            v /= 255;
            return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
        });
        return 0.2126 * x + 0.7152 * y + 0.0722 * z;
    };
    const low = [];
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
        const element = walker.currentNode.parentElement;
        const text = walker.currentNode.textContent.trim();
        if (!text || element.closest('script, style') || !element.checkVisibility()) continue;
        const behind = background(element);
        const ink = over(parse(getComputedStyle(element).color), behind);
        const [a, b] = [light(ink), light(behind)].sort((m, n) => n - m);
        const ratio = (a + 0.05) / (b + 0.05);
        if (ratio < 4.5) low.push([text.slice(0, 40), element.className, ratio.toFixed(2)]);
    }
    return low;
}"""


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("kind", KINDS)
def test_text_stands_out_from_what_is_behind_it(look, kind, scheme):
    shown = look(kind, scheme=scheme)
    shown.page.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    assert shown.page.evaluate(CONTRAST) == []


def test_the_two_schemes_differ(look):
    colours = [
        look("small", scheme=scheme).page.evaluate(
            "getComputedStyle(document.body).backgroundColor"
        )
        for scheme in SCHEMES
    ]
    assert colours[0] != colours[1]


@pytest.mark.parametrize("kind", ["small", "failed", "mapped"])
def test_what_is_printed_is_dark_on_white(look, kind):
    shown = look(kind, scheme="dark")
    shown.page.emulate_media(media="print", color_scheme="dark")
    assert shown.page.evaluate("getComputedStyle(document.body).backgroundColor") == (
        "rgb(255, 255, 255)"
    )
    assert shown.page.evaluate(CONTRAST) == []
    assert len(shown.page.pdf()) > 10_000


def test_a_wide_graph_fits_on_a_sheet(look):
    shown = look("fan")
    shown.page.evaluate("dispatchEvent(new Event('beforeprint'))")
    ((left, _, right, _),) = shown.box(".canvas")
    assert 600 < right - left <= 681
    shown.page.evaluate("dispatchEvent(new Event('afterprint'))")
    ((left, _, right, _),) = shown.box(".canvas")
    assert right - left > 700


# ---------------------------------------------------------------- what can be done


def column(shown, table, head):
    """Return the cells of a column from the top."""
    script = """(table, head) => {
        const heads = [...table.tHead.rows[0].cells];
        const at = heads.findIndex((cell) => cell.textContent.trim() === head);
        return [...table.tBodies[0].rows].map((row) => row.cells[at].dataset.value
            ?? row.cells[at].textContent.trim());
    }"""
    return shown.page.locator(f"section[aria-labelledby={table}] table").evaluate(script, head)


def head_of(shown, table, head):
    return shown.page.locator(f"section[aria-labelledby={table}] thead button", has_text=head)


def test_tables_sort_by_numbers_and_by_words(look):
    shown = look("large")
    totals = [float(value) for value in column(shown, "nodes", "Total")]
    assert totals == sorted(totals, reverse=True)
    head_of(shown, "nodes", "Total").click()
    totals = [float(value) for value in column(shown, "nodes", "Total")]
    assert totals == sorted(totals)
    head_of(shown, "nodes", "Node").press("Enter")
    assert column(shown, "nodes", "Node") == [f"step_{n}" for n in range(80)]
    head_of(shown, "nodes", "Node").press("Enter")
    assert column(shown, "nodes", "Node") == [f"step_{n}" for n in reversed(range(80))]
    sorted_by = shown.page.locator("section[aria-labelledby=nodes] th[aria-sort]")
    assert sorted_by.count() == 1
    assert sorted_by.get_attribute("aria-sort") == "descending"


def test_items_sort_by_their_index(look):
    shown = look("mapped")
    head_of(shown, "items", "Item").click()
    indexes = [int(value) for value in column(shown, "items", "Item")]
    assert indexes == sorted(indexes, reverse=True)


def test_a_node_that_is_chosen_is_lit_everywhere(look):
    shown = look("mapped")
    box = shown.page.locator(".box", has_text="priced")
    box.click()
    panel = shown.page.locator("#panel")
    assert panel.is_visible()
    assert "priced" in panel.inner_text()
    assert "Calls" in panel.inner_text()
    assert "choosing" in shown.page.locator("body").get_attribute("class")
    assert shown.page.locator(".row i.lit").count() > 0
    assert shown.page.locator(".line.lit").count() == 1
    assert shown.page.locator("tr.lit").count() == 1
    shown.page.keyboard.press("Escape")
    assert not panel.is_visible()
    assert shown.page.locator("tr.lit").count() == 0


def test_a_large_graph_can_be_seen_as_a_whole(look):
    shown = look("large")
    (place,) = shown.box(".graph")
    button = shown.page.get_by_role("button", name="Show all of it")
    button.click()
    assert all(inside(box, place) for box in shown.box(".box"))
    assert button.get_attribute("aria-pressed") == "true"
    button.click()
    assert not all(inside(box, place) for box in shown.box(".box"))


def test_all_can_be_done_by_keyboard_and_is_seen(look):
    shown = look("small")
    outlines = set()
    names = set()
    for _ in range(30):
        shown.page.keyboard.press("Tab")
        name, outline = shown.page.evaluate(
            """() => {
                const e = document.activeElement;
                return [e.className || e.tagName, getComputedStyle(e).outlineStyle];
            }"""
        )
        names.add(name.split(" ")[0])
        if name != "BODY":
            outlines.add(outline)
    assert {"scroll", "box", "key", "BUTTON"} <= names
    assert outlines == {"solid"}
    shown.page.locator(".box").first.focus()
    shown.page.keyboard.press("Enter")
    assert shown.page.locator("#panel").is_visible()


@pytest.mark.parametrize("kind", KINDS)
def test_what_reads_aloud_finds_headings_and_heads_of_tables(look, kind):
    shown = look(kind)
    levels = shown.page.locator("h1, h2, h3, h4").evaluate_all(
        "(found) => found.map((e) => Number(e.tagName[1]))"
    )
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert shown.page.locator("th:not([scope])").count() == 0
    assert shown.page.locator("html").get_attribute("lang") == "en"
    unnamed = "[role=region]:not([aria-label]):not([aria-labelledby])"
    assert shown.page.locator(unnamed).count() == 0
    ids = shown.page.locator("[id]").evaluate_all("(found) => found.map((e) => e.id)")
    assert len(ids) == len(set(ids))


def test_without_scripts_all_is_there(look):
    shown = look("failed", java_script_enabled=False)
    text = shown.page.locator("body").inner_text()
    for words in ("Failed", "Graph", "Timeline", "Nodes", "ValueError", "breaks", "no calls"):
        assert words in text
    shown.page.locator(".box", has_text="breaks").click()
    assert "#node-" in shown.page.url
    assert shown.page.locator("tr:target").count() == 1


@pytest.mark.parametrize("kind", ["small", "mapped", "fan"])
def test_blocks_of_the_timeline_lie_in_their_rows(look, kind):
    shown = look(kind)
    for number, row in enumerate(shown.box(".row")):
        blocks = shown.box(f".row >> nth={number} >> i")
        assert blocks
        assert all(inside(block, row, slack=2.5) for block in blocks)
