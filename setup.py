"""Builds the C extension; everything else about the package is in pyproject.toml.

Warnings and debug information belong to the developer's builds: `./dev lint`, `./dev sanitize`.
"""

from pathlib import Path

from setuptools import Extension, setup

ROOT = Path(__file__).parent


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
            extra_compile_args=["-std=c11", "-O3", "-fvisibility=hidden"],
            extra_link_args=["-pthread"],
        )
    ]
)
