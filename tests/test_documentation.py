"""Code blocks of the documentation run, its commands are ones, its verdicts are the reports', and the site builds."""

import re
import shlex
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import tyro

from tutelage.cli import Command
from tutelage.experiments.claims import judge_claims
from tutelage.experiments.experiment_file import load_experiment
from tutelage.experiments.record import Record

ROOT = Path(__file__).parents[1]
PAGES = [page for page in sorted(ROOT.glob("docs/**/*.md")) if len(page.relative_to(ROOT).parts) < 4]
RESULTS = ROOT / "docs" / "results"
REPORT = re.compile(r"^\| \[.*\]\(reports/(\w+)-(\w+)/index.html\), .* \| (\d+) \| (\d+) \| (\d+) \|", re.MULTILINE)
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


def test_the_site_builds_without_a_warning(tmp_path):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", tmp_path]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "LearnedOptimizer" in (tmp_path / "api" / "index.html").read_text()
