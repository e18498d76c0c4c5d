"""`python -m tools.pages [FOLDER]`: the five pages made of real results, opened in Chromium.

Each page is opened at two widths, light and dark. It has to fit the width, load nothing, and leave
the console empty, also after its controls were used; screenshots are kept in the folder (a new one
under the system's for temporary files, if none is named). Needs playwright and a Chromium that is
installed already.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

WIDTHS = (400, 1280)
SCHEMES = ("light", "dark")
_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
#: Uses the controls as a person would; answers how many items a filter left, then without it.
_USE = """() => {
  const search = document.querySelector("input[type=search]"), left = [];
  const count = () => document.querySelectorAll("[data-item]:not([hidden])").length;
  for (const text of search ? ["no such text", ""] : []) {
    for (const one of document.querySelectorAll("input[type=search]")) {
      one.value = text;
      one.dispatchEvent(new Event("input", { bubbles: true }));
    }
    left.push(count());
  }
  for (const button of document.querySelectorAll("th button, .cell")) button.click();
  for (const one of document.querySelectorAll("details")) one.open = true;
  return left;
}"""
#: How wide the page is beyond its window, and what sticks out.
_WIDE = """() => {
  const room = document.documentElement.clientWidth;
  const wide = document.documentElement.scrollWidth;
  if (wide <= room) return [];
  const out = [...document.querySelectorAll("body *")].find(
    (e) => e.getBoundingClientRect().right > room + 1);
  return [`${wide} pixels wide in ${room}: ${out ? out.outerHTML.slice(0, 120) : "?"}`];
}"""

NETS = '''
import torch
import torch.nn.functional as F
from torch import nn


class Block(nn.Module):
    """Two convolutions around which the input goes."""

    def __init__(self, width):
        super().__init__()
        self.one = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.two = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x):
        y = F.relu(self.norm(self.one(x)))
        return F.relu(x + self.two(y))


class Digits(nn.Module):
    """A classifier of small pictures <of digits & more>."""

    def __init__(self, width=16, classes=10):
        super().__init__()
        self.stem = nn.Conv2d(1, width, 3, padding=1)
        self.blocks = nn.ModuleList(Block(width) for _ in range(4))
        self.drop = nn.Dropout(0.1)
        self.out = nn.Linear(width * 16, classes)

    def forward(self, x):
        x = F.relu(self.stem(x))
        for block in self.blocks:
            x = block(x)
        x = F.max_pool2d(x, 2).flatten(1)
        return self.out(self.drop(x))


class Doubtful(Digits):
    """What an analysis has something to say of."""

    def __init__(self):
        super().__init__()
        self.memory = nn.LSTM(16, 16, proj_size=8)
        self.loss = nn.AdaptiveLogSoftmaxWithLoss(8, 20, [5])
        self.scale = nn.Parameter(torch.ones(3, dtype=torch.float64))

    def forward(self, x):
        if x.sum() > 0:
            x = x.clone()
        x[0] = 0.0
        return super().forward(x)


def doubtful():
    return Doubtful()


def digits():
    torch.manual_seed(0)
    return Digits().eval(), (torch.randn(2, 1, 8, 8),)
'''
TRAIN = '''
import torch
from torch import nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset


class Net(nn.Module):
    """A small classifier."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 8, 3, padding=1)
        self.out = nn.Linear(8 * 16, 10)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv(x)), 2)
        return self.out(x.flatten(1))


def main():
    torch.manual_seed(0)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    x, y = torch.randn(64, 1, 8, 8), torch.randint(0, 10, (64,))
    loader = DataLoader(TensorDataset(x, y), batch_size=16, shuffle=True)
    model = Net().to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01)
    for epoch in range(2):
        for images, labels in loader:
            images, labels = images.to(device), labels.to(device)
            optimizer.zero_grad()
            loss = F.cross_entropy(model(images), labels)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
        print(f"epoch {epoch}: {loss.item():.4f}")


if __name__ == "__main__":
    main()
'''
LEFT = "\n\ndef fitted(w):\n    return torch.optim.LBFGS([w])\n"


def _said(folder: Path, *line: str, fails: bool = False) -> str:
    """What a command of torch2mlx prints, run in a folder."""
    command = [sys.executable, "-m", "torch2mlx", *line]
    ran = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if ran.returncode != int(fails):
        raise SystemExit(f"pages: {' '.join(line)}: exit {ran.returncode}\n{ran.stderr}")
    return ran.stdout


def make(folder: Path) -> Iterator[Path]:
    """Writes the pages of real results of five verbs into a folder."""
    (folder / "nets.py").write_text(NETS)
    (folder / "train.py").write_text(TRAIN)
    (folder / "left.py").write_text(TRAIN.replace("\n\nif __name__", LEFT + "\n\nif __name__"))
    _said(folder, "port", "train.py", "train_mlx.py", "--force")
    wrong = (folder / "train_mlx.py").read_text().replace("weight_decay=0.01", "weight_decay=0.1")
    (folder / "train_wrong.py").write_text(wrong)
    html = ("--format", "html")
    pages = {
        "analyze": _said(folder, "analyze", "nets.py:doubtful", *html, "--fail-on", "none"),
        "translate": _said(folder, "translate", "nets.py:digits", "out", "--force", *html),
        "verify": _said(folder, "verify", "nets.py:digits", "out", "--gradients", *html),
    }
    model = folder / "out" / "model.py"
    model.write_text(model.read_text().replace("nn.relu(x + ", "nn.relu(1.01 * x + "))
    trusted = ("--trust-remote-code", *html)
    pages["verify-wrong"] = _said(folder, "verify", "nets.py:digits", "out", *trusted, fails=True)
    pages["port"] = _said(folder, "port", "left.py", "ported.py", "--force", *html)
    steps = ("--steps", "6", *html)
    pages["verify-training"] = _said(
        folder, "verify-training", "train.py", "train_wrong.py", *steps, fails=True
    )
    for name, page in pages.items():
        path = folder / f"{name}.html"
        path.write_text(page)
        yield path


def browser() -> str:
    """Chromium's path. Raises SystemExit where none is installed."""
    for name in _BROWSERS:
        found = shutil.which(name)
        if found:
            return found
    raise SystemExit("pages: no Chromium is installed: apt-get install chromium")


def faults(tab: Any, path: Path, width: int, scheme: str) -> Iterator[str]:
    """What is wrong with a page in a tab: a line each. Keeps a picture of it."""
    said: list[str] = []
    tab.on("console", lambda message: said.append(f"console: {message.text}"))
    tab.on("pageerror", lambda error: said.append(f"error: {error}"))
    tab.on("request", lambda request: said.append(f"loads {request.url}"))
    tab.goto(path.resolve().as_uri())
    yield from tab.evaluate(_WIDE)
    tab.screenshot(path=path.with_name(f"{path.stem}-{width}-{scheme}.png"), full_page=True)
    left = tab.evaluate(_USE)
    if left and (left[0] or not left[1]):
        yield f"a filter of nothing leaves {left[0]} items, and none {left[1]}"
    yield from tab.evaluate(_WIDE)
    own = f"loads {path.resolve().as_uri()}"
    yield from (line for line in said if line != own and "loads data:" not in line)


def main() -> int:
    """Prints what is wrong; 1 where something is."""
    from playwright.sync_api import sync_playwright

    folder = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp(prefix="torch2mlx-pages-"))
    folder.mkdir(exist_ok=True)
    os.environ["PYTHONPATH"] = os.pathsep.join([str(Path.cwd()), os.environ.get("PYTHONPATH", "")])
    looks = [(p, w, s) for p in make(folder) for w in WIDTHS for s in SCHEMES]
    wrong = 0
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=browser(), args=["--no-sandbox"])
        for path, width, scheme in looks:
            size = {"width": width, "height": 900}
            with opened.new_page(viewport=size, color_scheme=scheme) as tab:
                for fault in faults(tab, path, width, scheme):
                    print(f"pages: {path.name}, {width} pixels, {scheme}: {fault}")
                    wrong += 1
        opened.close()
    print(f"pages: pictures are in {folder}")
    print(f"pages: {len(looks)} looks, {wrong} faults")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
