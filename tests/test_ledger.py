"""The ledger: what ran is written down, and what is older than its code is told."""

import os
import subprocess
import sys
from dataclasses import replace

import pytest

from tools import ledger
from tools.ledger import NoHistoryError, Row, faults, last_touched, page, run_step
from tools.steps import STEPS, Step

ROW = Row("2026-03-10", "abc1234", 61, 0, "12 of 12 agree")
STEP = Step("some", "a measure", "true", ("code", "more.py"), 5)


@pytest.fixture
def history(tmp_path):
    """A repository; `history(day, path)` commits a change to a file on a day of March 2026."""
    root = tmp_path / "root"
    root.mkdir()

    def git(*words, **names):
        return subprocess.run(
            ["git", "-c", "user.name=n", "-c", "user.email=e@localhost", *words],
            cwd=root,
            check=True,
            capture_output=True,
            env={**os.environ, **names},
        )

    def commit(day, path):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(f"{day}")
        date = f"2026-03-{day:02}T12:00:00+0000"
        git("add", path)
        git("commit", "-qm", path, GIT_AUTHOR_DATE=date, GIT_COMMITTER_DATE=date)

    try:
        git("init", "-q")
    except FileNotFoundError:
        pytest.skip("git is not installed")
    commit.root = root
    return commit


def found(history, row=ROW, step=STEP):
    return list(faults({step.name: row}, [step], history.root))


def test_a_row_younger_than_its_code_holds(history):
    history(9, "code/a.py")
    assert found(history) == []


def test_a_row_may_be_older_by_what_it_allows_and_no_more(history):
    history(15, "code/deep/a.py")
    assert found(history) == []
    history(16, "code/deep/a.py")
    assert found(history) == [
        "some: ran on 2026-03-10, its code changed on 2026-03-16: 6 days, 5 are allowed; "
        "run ./dev full some"
    ]


def test_every_path_of_a_row_counts_and_no_other(history):
    history(1, "code/a.py")
    history(30, "elsewhere.py")
    assert found(history) == []
    history(31, "more.py")
    assert "21 days" in found(history)[0]


def test_a_new_run_ends_it(history):
    history(30, "code/a.py")
    assert found(history) and not found(history, replace(ROW, ran="2026-03-25"))


def test_days_are_those_of_utc(history):
    (history.root / "more.py").write_text("")
    stamp = "2026-03-15T23:30:00-0500"  # the 16th in UTC
    names = {"GIT_AUTHOR_DATE": stamp, "GIT_COMMITTER_DATE": stamp}
    command = ["git", "-c", "user.name=n", "-c", "user.email=e@localhost", "commit", "-qm", "x"]
    subprocess.run(["git", "add", "."], cwd=history.root, check=True)
    subprocess.run(command, cwd=history.root, check=True, env={**os.environ, **names})
    assert str(last_touched(history.root, ["more.py"])) == "2026-03-16"


def test_a_failed_step_is_a_fault(history):
    history(1, "code/a.py")
    assert found(history, replace(ROW, exit=3)) == [
        "some: failed on 2026-03-10 (exit code 3): 12 of 12 agree"
    ]


def test_a_row_without_a_step_is_a_fault(history):
    assert list(faults({"gone": ROW}, [STEP], history.root)) == [
        "gone: tools/steps.py has no such step"
    ]


def test_without_history_ages_are_unknown(history, tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    history(1, "code/a.py")
    history(2, "code/a.py")
    with pytest.raises(NoHistoryError, match="not a git checkout"):
        last_touched(tmp_path, ["code"])
    with pytest.raises(NoHistoryError, match="not a git checkout"):
        last_touched(history.root / "code", ["a.py"])
    shallow = tmp_path / "shallow"
    source = f"file://{history.root}"
    command = ["git", "clone", "-q", "--depth", "1", source, str(shallow)]
    subprocess.run(command, check=True, capture_output=True)
    with pytest.raises(NoHistoryError, match="shallow"):
        last_touched(shallow, ["code"])
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NoHistoryError, match="not installed"):
        last_touched(history.root, ["code"])


@pytest.mark.parametrize(("text", "code"), (("three: 3 of 4 agree", 0), ("boom", 7)))
def test_a_row_is_what_its_step_gave(tmp_path, capfd, text, code):
    script = tmp_path / "step.py"
    script.write_text(f"print('first'); print({text!r}); print(); raise SystemExit({code})")
    step = replace(STEP, command=f"python {script}")
    row = run_step(step, "abc1234+", tmp_path)
    assert (row.commit, row.exit, row.gave) == ("abc1234+", code, text.removeprefix("three: "))
    assert "first\n" in capfd.readouterr().out


def test_runs_write_rows_and_the_page_and_go_on_after_a_failure(tmp_path, monkeypatch):
    fine = replace(STEP, name="fine", command=f"{sys.executable} -c 'print(1)'")
    bad = replace(STEP, name="bad", command="false")
    monkeypatch.setattr(ledger, "STEPS", (bad, fine))
    monkeypatch.setattr(ledger, "KEPT", tmp_path / "ledger.json")
    monkeypatch.setattr(ledger, "PAGE", tmp_path / "ledger.md")
    (tmp_path / "ledger.json").write_text("{}")
    assert ledger.run(["missing"]) == 2
    assert ledger.run(["fine"]) == 0
    assert ledger.run([]) == 1
    rows = ledger.kept()
    assert [(name, row.exit, row.gave) for name, row in rows.items()] == [
        ("bad", 1, ""),
        ("fine", 0, "1"),
    ]
    assert (tmp_path / "ledger.md").read_text() == page(rows, (bad, fine))


def test_the_page_says_what_ran_failed_and_did_not_run():
    other = replace(STEP, name="other")
    text = page({"some": replace(ROW, exit=2)}, [STEP, other])
    assert text.endswith(
        "| some | a measure | `true` | 2026-03-10 | abc1234 | 2 | **failed** (exit code 2): "
        "12 of 12 agree | `code`, `more.py` | 5 |\n\nNot run yet: other.\n"
    )


def test_the_page_is_that_of_the_rows():
    assert ledger.PAGE.read_text() == page(ledger.kept(), STEPS), "run: python -m tools.ledger page"


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.name)
def test_steps_speak_of_code_that_exists_and_run_what_exists(step):
    for path in step.paths:
        assert (ledger.ROOT / path).exists(), path
    command = step.command.split()
    if command[0] == "./dev":
        assert f"\n{command[1]})\n" in (ledger.ROOT / "dev").read_text()
    elif command[0] == "sh":
        assert (ledger.ROOT / command[1]).exists()
    else:
        assert command[:2] == ["python", "-m"]
        place = ledger.ROOT / command[2].replace(".", "/")
        assert place.with_suffix(".py").exists() or (place / "__main__.py").exists()


def test_steps_have_names_and_commands_of_their_own():
    assert len({step.name for step in STEPS}) == len({step.command for step in STEPS}) == len(STEPS)


def test_what_decides_about_changes_is_what_the_readme_gives():
    root = ledger.ROOT
    text = (root / "dev").read_text()
    told = text[: text.index("set -eu")]
    for verb in ("lint", "test", "quick", "wheel", "debian", "full", "demo"):
        assert f"\n{verb})\n" in text and f"#   ./dev {verb} " in told, verb
    stages = (root / ".ci" / "run").read_text()
    assert "for stage in lint wheel debian test; do" in stages and "./dev $stage" in stages
    assert "./dev test" in (root / "README.md").read_text()
