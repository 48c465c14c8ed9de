"""`hypernodes cache stats|list|clear|verify PATH`."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hypernodes import DiskCache
from hypernodes.__main__ import main
from hypernodes.cache import EntryRecord, FsspecCache

ONE, TWO, THREE = "1a" * 32, "2b" * 32, "3c" * 32


@pytest.fixture
def cache(tmp_path):
    cache = DiskCache(tmp_path / "cache")
    cache.put_many({ONE: 1, TWO: "x" * 2_000_000, THREE: [3]})
    cache.note([EntryRecord("clean", ONE, {}), EntryRecord("load", TWO, {})])
    long_ago = time.time() - 2 * 86400
    os.utime(Path(cache.path, TWO[0], TWO[1:]), (long_ago, long_ago))
    cache.get_many([ONE, ONE, TWO, "4d" * 32])
    cache.get(ONE)
    return cache


def run(capsys, *arguments):
    status = main(["cache", *map(str, arguments)])
    return status, capsys.readouterr()


def damage(cache, signature):
    Path(cache.path, signature[0], signature[1:]).write_bytes(b"rubbish")


def test_stats_say_how_much_there_is_and_how_it_is_used(cache, capsys):
    cache.saved_counts()
    status, shown = run(capsys, "stats", cache.path)
    facts = dict(line.split(maxsplit=1) for line in shown.out.splitlines())
    assert status == 0
    assert facts["path"] == cache.path
    assert facts["entries"] == "3"
    assert facts["size"] == facts["largest"] == "2 MB"
    assert facts["oldest"] == "2 d"
    assert facts["newest"].endswith(" s")
    assert facts["hits"] == "3 (75%)"
    assert facts["misses"] == "1"


def test_stats_of_an_empty_cache(tmp_path, capsys):
    cache = DiskCache(tmp_path)
    cache.put(ONE, 1)
    cache.clear()
    status, shown = run(capsys, "stats", tmp_path)
    assert (status, "entries  0" in shown.out) == (0, True)


def test_list_shows_entries_newest_first_with_node_size_age_and_hits(cache, capsys):
    cache.saved_counts()
    status, shown = run(capsys, "list", cache.path)
    head, *rows = [line.split() for line in shown.out.splitlines()]
    assert status == 0
    assert head == ["entry", "size", "age", "hits", "node"]
    assert [row[0] for row in rows] == [THREE, ONE, TWO]
    assert [row[-1] for row in rows] == ["-", "clean", "load"]
    assert [row[-2] for row in rows] == ["0", "2", "1"]
    assert rows[2][1:5] == ["2", "MB", "2", "d"]


def test_list_may_be_limited(cache, capsys):
    _, shown = run(capsys, "list", cache.path, "--limit", "1")
    assert [line.split()[0] for line in shown.out.splitlines()] == ["entry", THREE]


def test_clear_empties_the_cache_and_keeps_the_key(cache, capsys):
    key = Path(cache.path, "key").read_bytes()
    status, shown = run(capsys, "clear", cache.path)
    assert (status, shown.out) == (0, "3 entries removed\n")
    assert cache.stats().items == 0
    assert Path(cache.path, "key").read_bytes() == key


def test_verify_finds_what_is_damaged(cache, capsys):
    assert run(capsys, "verify", cache.path)[0] == 0
    damage(cache, ONE)
    status, shown = run(capsys, "verify", cache.path)
    assert status == 1
    assert shown.out.splitlines()[0].startswith(ONE)
    assert shown.out.endswith("1 damaged entries\n")
    assert cache.stats().items == 3


def test_verify_removes_what_is_damaged_if_told_to(cache, capsys):
    damage(cache, ONE)
    status, shown = run(capsys, "verify", cache.path, "--delete")
    assert (status, shown.out.splitlines()[-1]) == (0, "1 damaged entries removed")
    assert not cache.has(ONE)
    assert cache.has(TWO)


def test_verify_makes_no_key_and_removes_nothing_without_it(tmp_path, capsys, monkeypatch):
    DiskCache(tmp_path, key="secret").put_many({ONE: 1, TWO: 2})
    for key in (None, "guess"):
        if key:
            monkeypatch.setenv("HYPERNODES_CACHE_KEY", key)
        status, shown = run(capsys, "verify", tmp_path, "--delete")
        assert (status, "HYPERNODES_CACHE_KEY" in shown.err) == (2, True)
    assert not Path(tmp_path, "key").exists()
    assert DiskCache(tmp_path).stats().items == 2
    monkeypatch.setenv("HYPERNODES_CACHE_KEY", "secret")
    assert run(capsys, "verify", tmp_path, "--delete")[0] == 0
    assert DiskCache(tmp_path).stats().items == 2


def test_what_is_no_entry_is_not_shown_and_damaged_counts_are_left_out(cache, capsys):
    shard = os.fsencode(Path(cache.path, ONE[0]))
    for name in (b"stranger", b"bad\xff", b"new\nline"):
        with Path(os.fsdecode(shard), os.fsdecode(name)).open("wb"):
            pass
    Path(cache.path, "counts").write_bytes(bytes(range(250)))
    cache.note([EntryRecord("two\nlines \x1b[31m", THREE, {})])
    status, shown = run(capsys, "list", cache.path)
    assert status == 0
    assert len(shown.out.splitlines()) == 4
    assert r"two\nlines \x1b[31m" in shown.out
    assert [line.split()[-2] for line in shown.out.splitlines()[2:]] == ["0", "0"]


def test_names_that_the_terminal_cannot_show_are_spelled(cache):
    cache.note([EntryRecord("größe", THREE, {})])
    command = [sys.executable, "-m", "hypernodes", "cache", "list", cache.path]
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    result = subprocess.run(command, env=environment, capture_output=True, timeout=60, check=True)
    assert rb"gr\xf6\xdfe" in result.stdout


def test_limits_are_not_negative(cache, capsys):
    with pytest.raises(SystemExit):
        run(capsys, "list", cache.path, "--limit", "-5")
    assert len(run(capsys, "list", cache.path, "--limit", "0")[1].out.splitlines()) == 1


def test_a_store_that_does_not_answer_is_not_an_empty_one(capsys, monkeypatch):
    fsspec = pytest.importorskip("fsspec")

    def refused(*_, **__):
        raise PermissionError("no credentials")

    monkeypatch.setattr(fsspec.get_filesystem_class("memory"), "find", refused)
    status, shown = run(capsys, "stats", "memory://nowhere")
    assert (status, "no credentials" in shown.err, "no cache" in shown.err) == (2, True, False)


@pytest.mark.parametrize("command", ["stats", "list", "clear", "verify"])
def test_where_there_is_no_cache_nothing_is_made_or_removed(tmp_path, capsys, command):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "file").write_text("mine")
    for path in (tmp_path / "nowhere", tmp_path):
        status, shown = run(capsys, command, path)
        assert status == 2
        assert f"no cache at {path}" in shown.err
    assert [path.name for path in tmp_path.rglob("*")] == ["a", "file"]


@pytest.mark.parametrize("command", ["stats", "list", "verify", "clear"])
def test_urls_are_looked_after_too(tmp_path, capsys, command):
    pytest.importorskip("fsspec")
    url = f"memory://{tmp_path.name}"
    assert run(capsys, command, url)[0] == 2
    cache = FsspecCache(url)
    cache.put_many({ONE: 1, TWO: 2})
    cache.note([EntryRecord("clean", ONE, {})])
    status, shown = run(capsys, command, url)
    assert status == 0
    assert {"stats": "2", "list": "clean", "verify": "0 damaged", "clear": "2 entries"}[
        command
    ] in shown.out
    if command == "verify":
        cache._open()[0].pipe_file(cache._place(ONE), b"rubbish")
        assert run(capsys, command, url, "--delete")[0] == 0
        assert not cache.has(ONE)


def test_a_url_that_nothing_can_read_is_an_error(capsys):
    pytest.importorskip("fsspec")
    assert run(capsys, "stats", "nonsense://x")[0] == 2


def test_the_command_runs_as_a_module_and_stops_quietly_when_nobody_reads(cache):
    command = f"{sys.executable} -m hypernodes cache list {cache.path} | head -c 1"
    result = subprocess.run(
        ["bash", "-c", command],  # noqa: S607 - wherever it is
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "e", "")


@pytest.mark.parametrize("arguments", [[], ["cache"], ["cache", "stats"], ["cache", "burn", "x"]])
def test_wrong_command_lines_are_explained(capsys, arguments):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "usage: hypernodes" in capsys.readouterr().err
