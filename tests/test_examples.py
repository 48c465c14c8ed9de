"""The examples run as a user runs them, and print what they claim."""

import ast
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def run(name: str, *arguments: str, cwd: Path, status: int = 0) -> subprocess.CompletedProcess[str]:
    """Run an example in a process of its own, where every warning is an error."""
    result = subprocess.run(
        [sys.executable, "-W", "error", EXAMPLES / name, *arguments],
        cwd=cwd,
        env=os.environ | {"PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        encoding="utf-8",
        timeout=300,
        check=False,
    )
    assert result.returncode == status, result.stderr
    return result


def table_of(output: str) -> dict[tuple[str, str], str]:
    """Read the table of the sweep: (model, scaling) to the rest of its line."""
    line = re.compile(r"^(\w[\w ]*?) {2,}\S+=\S+ +(range|standard) +(.*)$", re.MULTILINE)
    return {(model, scaling): rest for model, scaling, rest in line.findall(output)}


def test_every_example_is_tested_here():
    tested = Path(__file__).read_text(encoding="utf-8")
    assert [path.name for path in EXAMPLES.glob("*.py") if f'"{path.name}"' not in tested] == []


def test_smallest_pipeline_prints_its_results(tmp_path):
    output = run("smallest_pipeline.py", cwd=tmp_path).stdout
    first, *others = output.splitlines()
    assert ast.literal_eval(first) == {
        "words": ["plain", "functions", "make", "pipelines"],
        "longest": "functions",
    }
    assert others == [
        "{'longest': 'functions'}",
        "'a graph of nodes': graph",
        "'executors say how': executors",
        "'backends say where': backends",
        "three",
    ]


def test_each_level_of_config_wins_over_the_one_before(tmp_path):
    output = run("config_precedence.py", cwd=tmp_path).stdout
    assert dict(re.findall(r"^(.+?) {2,}ran by (.+), in MainThread$", output, re.MULTILINE)) == {
        "nothing set": "the library's executor",
        "global default": "the global default's executor",
        "use": "the with block's executor",
        "parent": "the parent's executor",
        "pipeline": "the pipeline's executor",
        "node": "the node's executor",
        "call": "the call's executor",
        "all taken away": "the library's executor",
    }


def test_nesting_and_mapping_prices_all_orders(tmp_path):
    output = run("nesting_and_mapping.py", cwd=tmp_path).stdout
    assert output.splitlines() == [
        "one order: {'amounts': [8.0, 3.0], 'total': 11.0}",
        "zip: [11.0, 25.65, 0.0]",
        "product: [11.0, 9.9, 5.5, 28.5, 25.65, 14.25]",
        "priced: 11.0",
        "priced: 28.5",
        "priced: 0.0",
        "failed: item 3, node 'look_up', KeyError('gold')",
        "streamed: 4.0",
        "streamed: 8.0",
        "streamed: 12.0",
    ]


@pytest.mark.parametrize("executor", ["sequential", "thread"])
def test_digits_sweep_shows_results_and_failures(tmp_path, executor):
    output = run("digits_sweep.py", "--quick", "--executor", executor, cwd=tmp_path).stdout
    table = table_of(output)

    assert set(table) == {
        ("logistic regression", "range"),
        ("logistic regression", "standard"),
        ("naive Bayes", "range"),
        ("naive Bayes", "standard"),
    }
    for candidate in set(table) - {("naive Bayes", "standard")}:
        mean, spread, test = re.match(r"([\d.]+) ± ([\d.]+) +([\d.]+)", table[candidate]).groups()
        assert 85 < float(mean) < 100
        assert 0 < float(spread) < 5
        assert 85 < float(test) < 100
    assert table["naive Bayes", "standard"].startswith("failed in train: ValueError: Negative")
    assert "3 candidates worked, 1 failed" in output
    assert (tmp_path / "output" / "digits.png").read_bytes().startswith(PNG_SIGNATURE)


def test_digits_sweep_gives_the_same_scores_on_every_executor(tmp_path):
    def scores(executor: str) -> dict[tuple[str, str], str]:
        output = run("digits_sweep.py", "--quick", "--executor", executor, cwd=tmp_path).stdout
        without_seconds = re.compile(r" +[\d.]+$")
        return {key: without_seconds.sub("", rest) for key, rest in table_of(output).items()}

    assert scores("thread") == scores("sequential")


def test_digits_sweep_takes_its_config_from_a_file(tmp_path):
    arguments = ["--quick", "--config", str(EXAMPLES / "digits.toml"), "--output", "elsewhere"]
    output = run("digits_sweep.py", *arguments, cwd=tmp_path).stdout
    assert re.search(r"3 candidates worked, 1 failed: .* ThreadPoolExecutor$", output, re.MULTILINE)
    assert (tmp_path / "elsewhere" / "digits.png").exists()
    assert not (tmp_path / "output" / "digits.png").exists()


def test_digits_sweep_refuses_an_unknown_executor_without_a_traceback(tmp_path):
    errors = run("digits_sweep.py", "--executor", "treads", cwd=tmp_path, status=2).stderr
    assert "treads" in errors
    assert "Traceback" not in errors


def test_callbacks_log_and_time_a_map(tmp_path):
    output = run("callbacks_log_and_time.py", cwd=tmp_path).stdout
    assert output.startswith("INFO words starts\n")
    assert "ERROR words > mean_length, item 1: ZeroDivisionError" in output
    assert "INFO words has ended" in output
    assert re.search(r"^mean_length: 2 calls, \d+\.\d+ s$", output, re.MULTILINE)
    assert re.search(r"^words: 3 calls, \d+\.\d+ s$", output, re.MULTILINE)


def test_a_report_is_written_where_it_is_asked_for(tmp_path):
    lines = run("run_report.py", str(tmp_path / "new"), cwd=tmp_path).stdout.splitlines()
    assert lines == ["11 of 12 stations", str(tmp_path / "new" / "weather.html")]
    page = (tmp_path / "new" / "weather.html").read_text(encoding="utf-8")
    assert "north-7 does not answer" in page
    assert "11 cached" in page


def test_metrics_of_processes_are_written_by_the_driver(tmp_path):
    lines = run("callbacks_metrics_file.py", cwd=tmp_path).stdout.splitlines()
    assert lines[0] == "10 lines"
    assert sorted(lines[1:]) == [
        "item 0: error 0.0000 after 4 steps",
        "item 1: error 0.0005 after 4 steps",
    ]


def test_a_cache_as_a_callback_runs_only_what_is_new(tmp_path):
    lines = run("callbacks_cache.py", cwd=tmp_path).stdout.splitlines()
    assert lines == ["[1, 4, 9]", "3 calls so far", "[1, 4, 16]", "4 calls so far"]


def test_the_plugin_package_is_found_by_its_entry_point(tmp_path):
    package = EXAMPLES / "plugin_package"
    project = tomllib.loads((package / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    metadata = tmp_path / "hypernodes_audit-0.1.0.dist-info"
    metadata.mkdir()
    ((group, points),) = project["entry-points"].items()
    lines = [f"[{group}]", *(f"{name} = {place}" for name, place in points.items())]
    (metadata / "entry_points.txt").write_text("\n".join(lines), encoding="utf-8")
    (metadata / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: hypernodes-audit\nVersion: 0\n"
    )
    source = (
        "import logging, sys; logging.basicConfig(level='INFO', stream=sys.stdout)\n"
        "from hypernodes import Pipeline, node\n"
        "Pipeline([node('y')(lambda x: x)], name='audited').run({'x': 1})\n"
    )
    path = os.pathsep.join((str(tmp_path), str(package / "src"), os.environ.get("PYTHONPATH", "")))
    result = subprocess.run(
        [sys.executable, "-c", source],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    assert re.search(r"INFO:hypernodes.audit:.* ran audited \(\w+\): done in", result.stdout)


def test_the_cluster_of_dask_finds_in_the_shared_cache_what_it_knows(tmp_path):
    output = run("cluster_dask.py", cwd=tmp_path).stdout
    first, second, counted = output.splitlines()
    assert re.fullmatch(r"40 throws: 3\.1[34]\d\d", first)
    assert re.fullmatch(r"80 throws: 3\.1[34]\d\d", second)
    assert counted == "80 throws were made, 40 were known"


def test_the_cluster_of_ray_brings_back_what_is_small(tmp_path):
    output = run("cluster_ray.py", cwd=tmp_path).stdout
    assert output == "10 waves, power 0.75, noise 0.50\n" * 4
