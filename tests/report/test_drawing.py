"""Treemaps and trees of pages: what they show is the whole model, whatever its shape."""

import pytest

from tests.support import need
from torch2mlx.analysis.records import Node
from torch2mlx.report.tree import marks
from torch2mlx.report.treemap import MOST, Area, areas, squarified


def chain(depth):
    return [Node(f"n{i}" * (i > 0), "C", "own", 1, 4, i - 1) for i in range(depth)]


def wide(count):
    root = Node("", "R", "own", 5, 20, -1)
    return [root, *(Node(f"m{i}", "L", "mapped", i + 1, 4, 0) for i in range(count))]


TREES = {
    "nothing": [],
    "one": [Node("", "Linear", "mapped", 7, 28, -1)],
    "chain": chain(30),
    "wide": wide(20),
    "too wide": wide(300),
    "roots": [Node(f"r{i}", "?", "own", 3, 12, -1) for i in range(4)],
    "empty": [Node("", "Flatten", "mapped", 0, 0, -1)],
}


@pytest.mark.parametrize("name", TREES)
def test_a_treemap_has_all_parameters_and_is_full(name):
    nodes = TREES[name]
    found = areas(nodes)
    assert sum(area.parameters for area in found) == sum(node.parameters for node in nodes)
    assert len(found) <= max(MOST, 4)
    for width, height in ((640.0, 360.0), (340.0, 460.0)):
        boxes = squarified(found, width, height)
        assert [box.area for box in boxes] == found
        assert sum(b.width * b.height for b in boxes) == pytest.approx(1e4 if found else 0)
        for box in boxes:
            assert box.x >= -1e-6 and box.x + box.width <= 100 + 1e-6
            assert box.y >= -1e-6 and box.y + box.height <= 100 + 1e-6
        for i, one in enumerate(boxes):
            for other in boxes[:i]:
                across = min(one.x + one.width, other.x + other.width) - max(one.x, other.x)
                down = min(one.y + one.height, other.y + other.height) - max(one.y, other.y)
                assert across < 1e-6 or down < 1e-6


def test_areas_in_proportion_to_their_parameters():
    boxes = squarified([Area(str(n), "", "own", n) for n in (6, 3, 2, 1)], 400, 300)
    sizes = [box.width * box.height for box in boxes]
    assert sizes == pytest.approx([5000, 2500, 10000 / 6, 10000 / 12])


def test_a_part_shows_the_worst_that_is_in_it():
    nodes = [
        Node("", "R", "own", 0, 0, -1),
        *(Node(f"m{i}", "L", "own", 0, 0, 0) for i in range(30)),
        *(Node(f"m{i}.{j}", "L", "mapped", 100 + i, 4, 1 + i) for i in range(30) for j in "ab"),
        Node("m0.c", "X", "unmapped", 1, 4, 1),
    ]
    found = {area.path: area.status for area in areas(nodes)}
    assert found["m0"] == "unmapped" and found["m1"] == "mapped"


@pytest.mark.parametrize("name", TREES)
def test_a_tree_shows_every_module_once_inside_its_parent(name):
    nodes, open_, seen = TREES[name], [], []
    parents = {node.path: nodes[node.parent].path for node in nodes if node.parent >= 0}
    for mark in marks(nodes):
        if mark.what == "close":
            open_.pop()
            continue
        seen.append(mark.name)
        above = parents.get(mark.name if mark.name != "(root)" else "")
        assert (open_[-1] if open_ else None) == (above if above != "" else "(root)")
        if mark.what == "open":
            open_.append(mark.name)
    assert not open_
    assert seen == [node.path or "(root)" for node in nodes]


def test_a_tree_of_any_depth_is_drawn():
    nodes = [*chain(3000), Node("last", "C", "own", 1, 4, 0)]
    found = list(marks(nodes))
    assert sum(mark.what != "close" for mark in found) == 3001
    depth = most = 0
    for mark in found:
        depth += {"open": 1, "close": -1}.get(mark.what, 0)
        most = max(most, depth)
    assert depth == 0 and most <= 60


def test_the_page_of_a_deep_model_is_made():
    need("jinja2")
    from torch2mlx.analyzer import PortabilityReport
    from torch2mlx.pages import page

    nodes = tuple(chain(3000))
    report = PortabilityReport("Deep", None, 0, 0, (), (), {"own": 3000}, 12000, 12000, nodes)
    assert page(report).count('class="leaf"') >= 2900
