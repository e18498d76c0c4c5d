"""`python -m tools.make_picture`: draws docs/picture.svg, a class of torch beside its MLX class.

The left side is the source of tools/picture_model.py, the right side what `translate` makes of it,
untouched; both without their imports.
"""

from __future__ import annotations

import io
import keyword
import sys
import tokenize
from collections.abc import Iterator
from html import escape
from pathlib import Path

PICTURE = Path(__file__).parent.parent / "docs" / "picture.svg"
_SIZE, _LINE, _CHAR, _PAD, _TOP = 14, 20, 8.45, 18, 58
_STYLE = """
text { font: 14px ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; fill: #1b2530;
  white-space: pre; }
.head { font: 600 15px system-ui, sans-serif; fill: #51606f; }
.k { fill: #8b1a6b; } .s { fill: #17653a; } .n { fill: #1c5aa3; }
.ground { fill: #f4f6f9; stroke: #d3dae2; }
@media (prefers-color-scheme: dark) {
  text { fill: #e4eaf0; } .head { fill: #a5b2bf; }
  .k { fill: #f0a1d8; } .s { fill: #80d8a3; } .n { fill: #8fc0f2; }
  .ground { fill: #1b232b; stroke: #35414d; }
}
"""


def classes(source: str) -> str:
    """The classes of a file, without what stands before them and after."""
    text = source[source.index("class ") :]
    return text.partition("\n\n\ndef ")[0].rstrip() + "\n"


def sources() -> tuple[str, str]:
    """Both sides. Translates the model, which runs and compares it."""
    import torch

    import torch2mlx
    from tools import picture_model

    torch.manual_seed(0)
    made = torch2mlx.translate(picture_model.Net().eval(), torch.randn(2, 3, 8, 8))
    assert made.compared == "equal"
    return classes(Path(picture_model.__file__).read_text()), classes(made.source)


def _kinds(source: str) -> dict[tuple[int, int], tuple[int, str]]:
    """Where coloured words begin -> where they end, and their class."""
    found = {}
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        kind = {tokenize.STRING: "s", tokenize.NUMBER: "n"}.get(token.type, "")
        if token.type == tokenize.NAME and keyword.iskeyword(token.string):
            kind = "k"
        if kind and token.start[0] == token.end[0]:
            found[token.start] = (token.end[1], kind)
    return found


def _lines(source: str, left: float) -> Iterator[str]:
    kinds = _kinds(source)
    for number, line in enumerate(source.splitlines(), 1):
        parts, column = [], 0
        while column < len(line):
            end, kind = kinds.get((number, column), (column + 1, ""))
            text = escape(line[column:end])
            parts.append(f'<tspan class="{kind}">{text}</tspan>' if kind else text)
            column = end
        y = _TOP + number * _LINE
        yield f'<text x="{left:.0f}" y="{y}" xml:space="preserve">{"".join(parts)}</text>'


def picture(torch_side: str, mlx_side: str) -> str:
    """The SVG of two programs side by side."""
    wide = [max(map(len, side.splitlines())) * _CHAR + 2 * _PAD for side in (torch_side, mlx_side)]
    tall = max(side.count("\n") for side in (torch_side, mlx_side)) * _LINE + _TOP + _PAD
    width, second = sum(wide) + 16, wide[0] + 16
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {tall + 2}" role="img" '
        'aria-label="a model in PyTorch, and what torch2mlx makes of it in MLX">',
        f"<style>{_STYLE}</style>",
    ]
    for left, room, head, side in (
        (0.0, wide[0], "PyTorch: your model", torch_side),
        (second, wide[1], "MLX: what translate wrote", mlx_side),
    ):
        parts.append(
            f'<rect class="ground" x="{left + 1:.0f}" y="1" width="{room - 2:.0f}" '
            f'height="{tall}" rx="8"/>'
        )
        parts.append(f'<text class="head" x="{left + _PAD:.0f}" y="34">{head}</text>')
        parts += _lines(side, left + _PAD)
    return "\n".join([*parts, "</svg>"]) + "\n"


def main() -> int:
    """Writes the picture."""
    PICTURE.write_text(picture(*sources()))
    print(f"picture: {PICTURE}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
