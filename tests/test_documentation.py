"""The documentation: its code runs, its commands are ones, its numbers are those of the tables, and the site builds."""

import functools
import itertools
import re
import shlex
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import tyro

from tutelage.cli import Command
from tutelage.evaluation import compare, confidence_interval, describe, final_by_seed, final_log_losses, summarize
from tutelage.experiments.claims import judge_claims
from tutelage.experiments.experiment_file import load_experiment
from tutelage.experiments.record import Record
from tutelage.zoo import zoo_card

ROOT = Path(__file__).parents[1]
PAGES = [page for page in sorted(ROOT.glob("docs/**/*.md")) if len(page.relative_to(ROOT).parts) < 4]
RESULTS = ROOT / "docs" / "results"
REPORT = re.compile(r"^\| \[.*\]\(reports/(\w+)-(\w+)/index.html\), .* \| (\d+) \| (\d+) \| (\d+) \|", re.MULTILINE)
EVALUATED = [RESULTS / f"{name}.parquet" for name in ("evaluations", "conv-mnist", "lenet", "nas-cifar")]
EVALUATED.append(ROOT / "tutelage" / "zoo" / "results.parquet")
NUMBER = r"(-?\d+\.\d+)"
INTERVAL = re.compile(rf"{NUMBER}(?: (?:lower|higher|held out)[^|()]*)?(?: \(|, from ){NUMBER} to {NUMBER}")
PYTHON = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def commands(page):
    """Those of the page's indented blocks, with lines that a backslash continues."""
    lines = re.sub(r" \\\n +", " ", page.read_text()).splitlines()
    return [line.strip() for line in lines if line.startswith("    tutelage ")]


@pytest.mark.parametrize("page", [page for page in PAGES if PYTHON.search(page.read_text())], ids=lambda p: p.stem)
def test_code_blocks_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for block in PYTHON.findall(page.read_text()):
        exec(compile(block, str(page), "exec"), {"__name__": "documentation"})


@pytest.mark.parametrize(
    "page", [page for page in [*PAGES, ROOT / "README.md"] if commands(page)], ids=lambda p: p.stem
)
def test_commands_are_ones(page):
    for command in commands(page):
        words = shlex.split(command.replace("…", ""), comments=True)
        tyro.cli(Command, args=words[1:])


def test_every_report_is_listed_with_the_verdicts_that_its_tables_give():
    rows = REPORT.findall((RESULTS / "README.md").read_text())
    listed = {f"{name}-{scale}": tuple(map(int, counts)) for name, scale, *counts in rows}
    found = {folder.name: _verdicts(folder) for folder in (RESULTS / "reports").iterdir()}
    assert listed == found


def _verdicts(folder):
    record = Record.load(load_experiment(folder.name.rsplit("-", 1)[0]), folder)
    claims = judge_claims(record.experiment, record.results, record.training_steps)
    counts = Counter(claim.outcome for claim in claims)
    return counts["holds"], counts["does not hold"], counts["undecided"]


def test_the_table_of_all_optimizers_says_what_was_measured():
    head, _, *rows = _tables((RESULTS / "README.md").read_text())[-1]
    assert len(rows) > 20
    wrong = []
    for name, taught, *cells in rows:
        report = re.search(r"reports/[\w-]+", taught)
        of_report = _measured(RESULTS / report[0] / "results.parquet") if report else {}
        for on, cell in zip(head[2:], cells, strict=True):
            key = (name.strip("`"), on)
            measured = of_report.get(key) or _evaluated(key)
            if cell and cell not in measured:
                wrong.append((*key, cell, measured))
    assert not wrong


CONVOLUTIONAL = (RESULTS / "convolutional.md").read_text().split("\n## ")[1:]


@pytest.mark.parametrize("section", CONVOLUTIONAL, ids=lambda section: section.split()[0])
def test_the_page_of_convolutional_networks_says_what_was_measured(section):
    on = section.split()[0]
    (_, _, *tuned), (_, _, *compared) = _tables(section)
    assert tuned
    assert compared
    for name, rate, *_, ends_at, seeds in tuned:
        assert f"{ends_at}{'*' * (seeds == '10')} ({rate})" in _evaluated((name.strip("`"), on))
    rates = {name: rate for name, rate, *_ in tuned}
    results = pl.read_parquet(EVALUATED[-1]).filter(pl.col("step") == 10_000, optimizee=on)
    for name, than, lower_by, seeds in compared:
        ((mean, low, high),) = re.findall(r"^(\S+) \((\S+) to (\S+)\)$", lower_by)
        said = f"difference {_minus(mean)}, from {_minus(high)} to {_minus(low)} ({seeds} seeds)"
        rows = compare(results, name.strip("`")).iter_rows(named=True)
        measured = {_without_rate(row["than"]): row["measured"] for row in rows}
        assert measured[than.strip("`"), rates.get(than, "")] == said


@pytest.mark.parametrize("page", ["README.md", "docs/results/README.md", "docs/results/figures.md"])
def test_every_result_on_these_pages_is_in_a_table(page):
    reports = RESULTS.glob("reports/*/results.parquet")
    found = set().union(*(_results(table) for table in [*EVALUATED, *reports]))
    said = re.findall(r"-?\d+\.\d+ ± \d+\.\d+", (ROOT / page).read_text())
    assert len(said) > 30
    assert set(said) <= found


@functools.cache
def _results(path):
    """What runs of each length in the table end at, with all seeds and with the first five."""
    table = pl.read_parquet(path)
    parts = (table.filter(pl.col("seed") < seeds, step=n) for n in (1_000, 2_000, 10_000) for seeds in (5, 1_000))
    return {describe(row) for part in parts if len(part) for row in summarize(part).iter_rows(named=True)}


@pytest.mark.parametrize(("page", "at_least"), [("figures.md", 14), ("README.md", 3)])
def test_every_interval_on_these_pages_is_of_two_optimizers_of_a_table(page, at_least):
    reports = RESULTS.glob("reports/*/results.parquet")
    found = np.concatenate([_intervals_of_table(table) for table in [*EVALUATED, *reports]])
    said = INTERVAL.findall((RESULTS / page).read_text())
    assert len(said) >= at_least
    assert not _not_among(found, said)


@functools.cache
def _intervals_of_table(path):
    windows = pl.read_parquet(path).filter(pl.col("step").is_in((1_000, 2_000, 10_000)))
    groups = [final_log_losses(final) for _, final in windows.group_by("optimizee", "split", "step")]
    runs = [[np.log(final_by_seed(final, name)) for name in final["optimizer"].unique()] for final in groups]
    return np.concatenate([_intervals(of_group) for of_group in runs])


def _intervals(runs):
    """By how much each is above each other in the seeds that both have, and the interval: [pairs, 3]."""
    found = []
    for one, other in itertools.permutations(runs, 2):
        seeds = min(len(one), len(other))
        difference = one[:seeds] - other[:seeds]
        interval = confidence_interval(difference)
        if interval is not None and np.isfinite(difference).all():
            found.append((difference.mean(), *interval))
    return np.array(found).reshape(-1, 3)


def _not_among(found, said):
    """Those of the intervals, as text, that are none of those found, rounded."""
    rounding = [0.501 * 10.0 ** -len(mean.partition(".")[2]) for mean, _, _ in said]
    off = [np.abs(found - np.array(interval, float)).max(axis=1).min() for interval in said]
    return [interval for interval, by, most in zip(said, off, rounding, strict=True) if by > most]


def test_the_tables_of_own_models_say_what_was_measured():
    measured = pl.read_parquet(RESULTS / "own-models.parquet")
    _, *sections = (ROOT / "docs" / "which.md").read_text().split("\n`--on ")
    assert sum(len(INTERVAL.findall(section)) for section in sections) >= 7
    assert {section.split("`")[0] for section in sections} == set(measured["model"])
    for section in sections:
        of_model = measured.filter(model=section.split("`")[0]).sort("seed")
        by_optimizer = of_model.partition_by("optimizer")
        runs = [[of[column].to_numpy() for of in by_optimizer] for column in ("training", "held_out")]
        assert not _not_among(np.concatenate([_intervals(of) for of in runs]), INTERVAL.findall(section))
        ((_, _, *rows),) = _tables(section)
        assert len(rows) == of_model["optimizer"].n_unique()
        for name, *cells in rows:
            of_optimizer = of_model.filter(optimizer=name.strip("*").replace("default (0.001)", "default"))
            assert len(of_optimizer) == 5
            for column, cell in zip(("training", "held_out"), cells, strict=True):
                mean, deviation = cell.split(" ± ")
                decimals = len(mean.partition(".")[2])
                values = of_optimizer[column].to_numpy()
                assert (mean, deviation) == (f"{values.mean():.{decimals}f}", f"{values.std(ddof=1):.{decimals}f}")


def _minus(number):
    return number.removeprefix("-") if number.startswith("-") else f"-{number}"


def _tables(text):
    """The cells of each table there: its head, the line below it, its rows."""
    tables = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)
    return [[[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()] for table in tables]


def _evaluated(key):
    """What the tables beside the pages and the zoo's have of an optimizer on an optimizee."""
    return set().union(*(_measured(table).get(key, ()) for table in EVALUATED))


@functools.cache
def _measured(path):
    """By optimizer, without its learning rate, and optimizee: results after 10,000 steps as the page writes them."""
    rows = pl.read_parquet(path).filter(pl.col("step") == 10_000, split="test")
    measured = {}
    for row in summarize(rows).iter_rows(named=True):
        name, rate = _without_rate(row["optimizer"])
        cell = describe(row) + "*" * (row["seeds"] == 10) + f" ({rate})" * bool(rate)
        measured.setdefault((name, row["optimizee"]), set()).add(cell)
    return measured


def _without_rate(optimizer):
    """The name without its learning rate, and that, empty where there is none."""
    rate = re.search(r":learning_rate=([^,]+),?", optimizer)
    name = re.sub(r":learning_rate=[^,]+,?", ":", optimizer).rstrip(":")
    return name, np.format_float_positional(float(rate[1]), trim="-") if rate else ""


def test_the_verdicts_in_the_readme_are_those_of_the_cards():
    tables = _tables((ROOT / "README.md").read_text())
    ((head, _, *rows),) = [table for table in tables if "the best of six" in table[0]]
    said = {
        (name, re.sub(",.*", "", optimizee), steps): cell
        for optimizee, steps, _, *cells in rows
        for name, cell in zip(head[3:], cells, strict=True)
    }
    said = {key: cell for key, cell in said.items() if "±" in cell and "with 5 undecided" not in cell}
    assert len(said) > 15
    for (name, optimizee, steps), cell in said.items():
        row = re.search(rf"^\| {optimizee} \| {steps} \| (.*)$", zoo_card(name).read_text(), re.MULTILINE)
        assert row
        mean = re.match(r"\S+ ± [\d.]+", cell)
        assert mean
        assert row[1].startswith(mean[0])
        verdict = re.search(r"(yes|no|undecided)\W+([\d.]+)( higher)? \(([-\d.]+) to ([-\d.]+)\)", cell)
        beside = re.search(r"(yes|no|undecided): difference (\S+), from (\S+) to (\S+) ", row[1])
        assert bool(verdict) == bool(beside)
        if verdict and beside:
            assert verdict[1] == beside[1]
            assert bool(verdict[3]) == (verdict[1] == "no")
            sign = 1 if verdict[3] else -1
            difference, *interval = (sign * float(beside[group]) for group in (2, 3, 4))
            rounding = 10.0 ** -len(verdict[2].partition(".")[2])
            np.testing.assert_allclose(
                [float(verdict[group]) for group in (2, 4, 5)], [difference, *sorted(interval)], atol=0.51 * rounding
            )


def test_the_site_builds_without_a_warning(tmp_path):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", tmp_path]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "LearnedOptimizer" in (tmp_path / "api" / "index.html").read_text()
