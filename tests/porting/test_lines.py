"""Lines of a text that was changed are found in the text that it comes from."""

from tests.support import need

need("libcst")

from torch2mlx.porting.scopes.lines import line_map


def _functions(count, changed):
    """Functions that differ in their names alone, with blank lines between; every `changed`-th
    has a statement more."""
    lines = []
    for i in range(count):
        lines += [f"def f{i}(x):", *["    x = x + 1"] * (i % changed == 0), "    return x", "", ""]
    return lines


def test_lines_that_stand_at_many_places_come_from_beside_their_neighbours():
    before, after = _functions(400, 1000), _functions(400, 7)
    found = line_map("\n".join(before), "\n".join(after))
    starts = {line: at for at, line in enumerate(before, 1) if line.startswith("def")}
    for at, line in enumerate(after, 1):
        if line.startswith("def"):
            start = at
            assert found[at] == starts[line]
        elif line.startswith("    return"):
            assert before[found[at] - 1] == line
            assert found[at] - starts[after[start - 1]] in (1, 2)
