"""The analyzer finds what is there, and nothing else."""

import json

import numpy as np
import pytest

from tests.support import need

need("torch", "hypothesis", "jinja2")

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from tests.analysis.models import CASES, Bare, HostRead, Nested
from torch2mlx import _core, analyze
from torch2mlx.analysis.records import FACT, FLAGS, MODULE, STATUSES
from torch2mlx.cli import main
from torch2mlx.errors import CheckpointError, ConversionError
from torch2mlx.pages import page as page_of
from torch2mlx.report.sarif import as_sarif


@pytest.mark.filterwarnings("ignore:Complex modules:UserWarning")
@pytest.mark.parametrize("name", CASES)
def test_exactly_the_known_findings(name):
    make, expected = CASES[name]
    found = analyze(make()).findings
    assert sorted(f.rule for f in found) == sorted(rule for rule, _ in expected)
    for rule, part in expected:
        assert any(f.rule == rule and part in f"{f.what}{f.cls}" for f in found), part


def test_places_are_real():
    (finding,) = analyze(Nested()).findings
    assert finding.path == "inner.0" and finding.count == 2
    with open(finding.file) as file:
        assert ".item()" in file.read().splitlines()[finding.line - 1]


def test_counts_and_sizes():
    report = analyze(nn.Sequential(nn.Linear(4, 4), nn.AdaptiveAvgPool1d(1), HostRead()))
    assert (report.total_layers, report.mapped_layers) == (3, 2)
    assert report.coverage == pytest.approx(2 / 3)
    assert report.unmapped_layers == ("AdaptiveAvgPool1d",)
    assert sum(report.parameters.values()) == 2 * 20
    assert report.output_bytes == 160
    assert report.blockers == ()


def test_the_coverage_is_that_of_convert(tmp_path):
    from torch2mlx import convert

    for make in (nn.ReLU, lambda: nn.AdaptiveAvgPool2d(1), lambda: nn.MultiheadAttention(4, 2)):
        model = nn.Sequential(nn.Linear(2, 2), make())
        converted = convert(model, tmp_path / "x.safetensors", on_unmapped="ignore").coverage
        found = analyze(model)
        assert (converted.total_layers, converted.mapped_layers) == (
            found.total_layers,
            found.mapped_layers,
        )


def test_a_model_on_the_meta_device_and_a_config(tmp_path):
    (transformers,) = need("transformers")
    config = transformers.GPT2Config(n_layer=1, n_head=2, n_embd=8, vocab_size=11, n_positions=8)
    config.architectures = ["GPT2LMHeadModel"]
    config.save_pretrained(tmp_path)
    with torch.device("meta"):
        live = analyze(transformers.GPT2LMHeadModel(config))
    assert analyze(tmp_path).to_dict() == live.to_dict()
    page, sarif = tmp_path / "r.html", tmp_path / "r.sarif"
    assert main(["analyze", str(tmp_path), "--html", str(page), "--sarif", str(sarif)]) == 0
    assert "GPT2LMHeadModel" in page.read_text() and json.loads(sarif.read_text())["runs"]


def test_a_checkpoint_without_types(tmp_path):
    from safetensors.torch import save_file

    state = {"conv.weight": torch.ones(2, 3, 4), "conv.bias": torch.ones(2), "a.b": torch.ones(5)}
    save_file(state, tmp_path / "x.safetensors")
    report = analyze(tmp_path / "x.safetensors")
    (finding,) = report.findings
    assert (finding.rule, finding.path, finding.what) == ("T2M012", "conv", "conv.weight")
    assert report.output_bytes == 4 * (24 + 2 + 5) and len(report.blockers) == 1
    with pytest.raises(CheckpointError):
        analyze(tmp_path / "absent.safetensors")


def test_what_cannot_be_analyzed(tmp_path):
    with pytest.raises(ConversionError, match=r"nn\.Module"):
        analyze({"a": 1})
    with pytest.raises(CheckpointError, match="no checkpoint"):
        analyze(tmp_path)


def test_reports_in_every_form():
    report = analyze(Bare())
    assert "T2M003" in str(report)
    assert json.loads(json.dumps(report.to_dict()))["model"] == "Bare"
    results = as_sarif(report, "0")["runs"][0]["results"]
    assert [r["ruleId"] for r in results] == [f.rule for f in report.findings]
    assert all(finding.rule in page_of(report) for finding in report.findings)


def test_rules_are_unique_and_complete():
    rules = _core.rules()
    assert len({rule[0] for rule in rules}) == len(rules)
    assert all(all(part for part in rule) for rule in rules)


numbers = st.integers(0, 12) | st.sampled_from([0xFFFFFFFF, 0xFFFFFFFE, 1 << 20])
modules = st.lists(st.tuples(numbers, numbers, numbers, numbers, numbers, numbers), max_size=12)
facts = st.lists(st.tuples(numbers, numbers, numbers, numbers), max_size=12)


@settings(max_examples=300)
@given(modules, facts, numbers)
def test_random_records_never_crash(rows, notes, classes):
    table, found = np.array(rows, MODULE), np.array(notes, FACT)
    try:
        findings, layers, mapped, _, _ = _core.analyze(table, found, classes)
    except _core.CoreError as error:
        assert error.args[0] == "LIMIT"
    else:
        assert mapped <= layers <= len(rows)
        assert all(module < len(rows) for _, module, _, _ in findings)


def test_wrong_buffers_are_refused():
    with pytest.raises(ValueError, match="whole"):
        _core.analyze(b"123", b"", 0)
    with pytest.raises(_core.CoreError):
        _core.analyze(np.zeros(1, MODULE), np.zeros(0, FACT), 0)
    assert len(STATUSES) == len(_core.analyze(np.zeros(0, MODULE), np.zeros(0, FACT), 0)[3])
    assert sorted(FLAGS.values()) == [1 << i for i in range(len(FLAGS))]
