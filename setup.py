"""Builds the C extension; everything else about the package is in pyproject.toml.

Environment: T2M_SANITIZE=1 builds with AddressSanitizer and UndefinedBehaviorSanitizer.
"""

import os
from pathlib import Path

from setuptools import Extension, setup

ROOT = Path(__file__).parent
FLAGS = ["-std=c11", "-O3", "-g", "-fvisibility=hidden", "-Wall", "-Wextra", "-Werror"]
LINK = ["-pthread"]

if os.environ.get("T2M_SANITIZE"):
    SANITIZE = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]
    FLAGS += [*SANITIZE, "-O1", "-fno-omit-frame-pointer"]
    LINK += SANITIZE


def sources() -> list[str]:
    """Every C file of the core and the binding, relative to the project."""
    return sorted(str(p.relative_to(ROOT)) for p in (ROOT / "csrc").glob("*/*.c"))


def headers() -> list[str]:
    """What the C files include: a change in one rebuilds the extension."""
    return sorted(str(p.relative_to(ROOT)) for p in (ROOT / "csrc").glob("*/*.[hd]*"))


setup(
    ext_modules=[
        Extension(
            "torch2mlx._core",
            sources(),
            depends=headers(),
            extra_compile_args=FLAGS,
            extra_link_args=LINK,
        )
    ]
)
