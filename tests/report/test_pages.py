"""Pages of results: one file that loads nothing, well formed, with all of a user's text escaped."""

import base64
import hashlib
import re
import sys
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from tests.support import need

need("torch", "mlx.core", "jinja2", "libcst")

import torch
from torch import nn

import torch2mlx
from torch2mlx.cli import main
from torch2mlx.errors import MissingLibraryError
from torch2mlx.lockstep.result import Agreement, Cause, TrainingVerification
from torch2mlx.verifier import Verification

BAD = "</script><script>alert(1)</script><b onload='x'>&\"'"
VOID = {"meta", "link", "br", "wbr", "input"}


class Page(HTMLParser):
    """Tags in order, what is open, the text outside of scripts and styles."""

    def __init__(self, page):
        super().__init__()
        self.open, self.tags, self.text, self.attributes = [], [], "", []
        self.feed(page)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID and tag != "polyline":
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag != "polyline":
            assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("script", "style"):
            self.text += data


class Net(nn.Module):
    """A net of <two> layers & a name."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)
        self.out = nn.Linear(4, 2)

    def forward(self, x):
        return self.out(torch.relu(self.conv(x)).mean((2, 3)))


@pytest.fixture(scope="module")
def made():
    """A model, its translation, and the two compared layer by layer."""
    torch.manual_seed(0)
    model, x = Net().eval(), torch.randn(2, 1, 5, 5)
    t = torch2mlx.translate(model, x)
    return model, t, torch2mlx.verify(model, t, x, layers=True)


TRAINING = TrainingVerification(
    (Cause("gradient", 2, BAD, f"differs by {BAD}", ("a.py:1", "b.py:2")),),
    (
        Agreement(1, "SGD", 1.5, 1.5, {"losses": 0.0, "gradients": None}),
        Agreement(2, "SGD", 1.25, 1.5, {"losses": 0.2, "gradients": 3e-3}),
        Agreement(3, "SGD", 1.0, float("nan"), {"losses": float("nan"), "gradients": None}),
    ),
    (BAD,),
)


@pytest.fixture(scope="module")
def pages(made, tmp_path_factory):
    """A page of each kind, each with text of a user's that is no HTML."""
    model, t, checked = made
    odd = nn.Sequential()
    odd.add_module("<i>&", nn.Linear(1, 1))
    odd[0].weight = nn.Parameter(torch.ones(1, 1, dtype=torch.float64))
    source = (
        f"import torch\nx = torch.ones(2)\nprint({BAD!r}, x)\ny = torch.optim.SparseAdam([x])\n"
    )
    script = tmp_path_factory.mktemp("scripts") / "a.py"
    script.write_text(source)
    output = checked.outputs[0]
    wrong = Verification(
        (replace(output, name=BAD, verdict="differs", difference=float("nan")),),
        BAD,
        (BAD,),
        (BAD,),
        (replace(output, name=BAD, what="layer", verdict="differs", difference=0.5),),
    )
    return {
        "analyze": torch2mlx.page(torch2mlx.analyze(odd)),
        "translate": torch2mlx.page(t, model=model),
        "port": torch2mlx.page(torch2mlx.port(source)),
        "verify": torch2mlx.page(checked, model=model),
        "wrong": torch2mlx.page(wrong),
        "verify-training": torch2mlx.page(TRAINING, scripts=(script, script)),
    }


KINDS = ["analyze", "translate", "port", "verify", "wrong", "verify-training"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_page_is_one_well_formed_file_that_loads_nothing(pages, kind):
    page = pages[kind]
    found = Page(page)
    assert page.startswith("<!doctype html>") and page.count("<style>") == 1
    assert not {"iframe", "img", "object", "embed", "video"} & set(found.tags)
    links = [value for name, value in found.attributes if name in ("src", "href")]
    assert all(link == "data:," or link.startswith("https://") for link in links)
    assert not [name for name, _ in found.attributes if name.startswith("on")]
    assert found.tags.count("link") == 1 and "src" not in dict(found.attributes)
    assert ("viewport", "width=device-width, initial-scale=1") in zip_meta(page)


def zip_meta(page):
    return re.findall(r'<meta name="([\w-]+)" content="([^"]*)">', page)


@pytest.mark.parametrize("kind", KINDS)
def test_the_policy_lets_the_own_script_run_and_no_other(pages, kind):
    page = pages[kind]
    (script,) = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)[1]
    policy = policy.replace("&#39;", "'")
    assert "default-src 'none'" in policy and policy.endswith(f"script-src 'sha256-{digest}'")
    assert "script-src 'unsafe" not in policy


@pytest.mark.parametrize("kind", KINDS)
def test_text_of_users_stays_text(pages, kind):
    page = pages[kind]
    assert page.count("<script") == 1 and "<b onload" not in page and "<i>" not in page
    assert "<two>" not in page and "alert(1)</script>" not in page


@pytest.mark.parametrize("kind", KINDS)
def test_what_may_differ_stands_before_all_else(pages, kind):
    heads = re.findall(r"<h2>(.*?)</h2>", pages[kind], re.DOTALL)
    assert heads[0] == "What may differ" and len(heads) == len(set(heads))


def test_graver_things_stand_first(pages):
    kinds = re.findall(r'<li class="(\w*)">', pages["port"])
    assert kinds and kinds == sorted(kinds, key=["bad", "warn", ""].index) and kinds[0] == "bad"


def test_a_translation_has_both_sources_the_tree_and_the_tensors_that_moved(pages, made):
    text = Page(pages["translate"]).text
    assert "A net of <two> layers & a name." in text and "def __call__(self, x)" in text
    assert "agrees with torch on the example inputs" in text
    assert "becomes mlx.nn.Conv2d" in text and "o i h w -> o h w i" in text
    assert made[1].source.splitlines()[-1] in text


def test_a_verification_has_a_bar_for_each_layer_in_their_order(pages, made):
    checked = made[2]
    assert [layer.name for layer in checked.layers] == ["conv", "out"]
    assert all(layer.ok and layer.what == "layer" for layer in checked.layers)
    bars = re.findall(r'<button type="button" class="cell (\w+)" title="([^"]*)"', pages["verify"])
    assert [(status, title.split(":")[0]) for status, title in bars] == [
        ("mapped", "conv"),
        ("mapped", "out"),
    ]
    wrong = re.findall(r'<button type="button" class="cell (\w+)"', pages["wrong"])
    assert wrong == ["refused"] and "✕</button>" in pages["wrong"]


def test_layers_that_differ_are_told_with_their_figures(made):
    model, t, _ = made
    x = torch.randn(2, 1, 5, 5)
    module = t.built()
    module.out.bias = module.out.bias + 0.5
    found = torch2mlx.verify(model, module, x, layers=True)
    conv, out = found.layers
    assert conv.ok and not out.ok and found.first == "out"
    assert out.difference == pytest.approx(
        found.outputs[0].difference
    ) and out.difference == pytest.approx(0.5, rel=0.5)


def test_a_training_has_its_causes_a_bar_for_each_step_and_both_curves(pages):
    page = pages["verify-training"]
    bars = re.findall(r'class="cell (\w+)" title="(step \d)', page)
    assert bars == [("mapped", "step 1"), ("refused", "step 2"), ("custom", "step 3")]
    lines = dict(re.findall(r'<polyline class="(\w+)" points="([^"]*)"', page))
    assert len(lines["torch"].split()) == 3 and len(lines["mlx"].split()) == 2


def test_a_port_tells_why_beside_the_line_that_changed(pages):
    page = re.sub(r"<wbr>", "", pages["port"])
    row = page.index("torch</mark>.ones")
    assert page.index('<p class="why"><code>torch.ones</code>') > row
    assert "torch.optim.SparseAdam" in page[: page.index("<h2>&lt;source&gt;")]


def test_the_command_line_prints_the_same_page(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nets.py").write_text(
        "import torch\n\n\ndef make():\n    torch.manual_seed(0)\n"
        "    return torch.nn.Linear(3, 2).eval(), (torch.ones(2, 3),)\n"
    )
    for line in (("translate", "nets.py:make", "out"), ("verify", "nets.py:make", "out")):
        assert main([*line, "--format", "html"]) == 0
        page = capsys.readouterr().out
        Page(page)
        assert f"torch2mlx {line[0]}</p>" in page
    assert 'class="strip"' not in page  # a layer alone has none inside


def test_without_jinja2_it_is_asked_for_by_name_before_anything_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    told = r"^page needs jinja2: pip install 'torch2mlx\[pages\]'$"
    with pytest.raises(MissingLibraryError, match=told):
        torch2mlx.page(TRAINING)
    (tmp_path / "x.py").write_text("import torch\n")
    out = tmp_path / "y.py"
    assert main(["port", str(tmp_path / "x.py"), str(out), "--format", "html"]) == 1
    assert "pip install 'torch2mlx[pages]'" in capsys.readouterr().err and not out.exists()


def test_other_objects_have_no_page():
    for other in (None, [], 3, [TRAINING]):
        with pytest.raises(TypeError, match="there is no page of"):
            torch2mlx.page(other)
