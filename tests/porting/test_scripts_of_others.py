"""What docs/port.md says of scripts of others is what its table counts to."""

import re
from pathlib import Path

PAGE = (Path(__file__).parents[2] / "docs" / "port.md").read_text()
#: How an outcome begins -> what it counts as; originals that do not run here are none.
KINDS = {
    "agree": "agree",
    "refused": "refused",
    "stops with an error": "refused",
    "not compared: the originals": None,
    "not compared": "not compared",
    "the original": None,
    "several processes": None,
    "none of torch's": None,
}


def counted(table):
    found = dict.fromkeys(("agree", "refused", "not compared"), 0)
    for _, scripts, outcome in re.findall(r"^\| (.*?) \| (.*?) \| (.*?) \|$", table, re.MULTILINE):
        if scripts in ("script", "---"):
            continue
        kind = next(KINDS[start] for start in KINDS if outcome.startswith(start))
        if kind is not None:
            found[kind] += len(re.sub(r"\(.*?\)", "", scripts).split(","))
    return found


def test_the_counts_are_those_of_the_table():
    text = PAGE.partition("## Scripts of others")[2].partition("Repositories that were tried")[0]
    found = counted(text)
    whole = sum(found.values())
    share = round(100 * found["agree"] / whole)
    said = " ".join(text.split())
    assert f"{found['agree']} of {whole} scripts whose originals run" in said, found
    assert f"agree ({share} %)" in said
    assert f"{found['refused']} are refused by name" in said
    assert f"{found['not compared']} was not compared" in said
