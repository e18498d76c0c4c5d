"""What `./dev full` runs: the measures that take too long for every change.

The last line that a step prints on standard output is what it gave; a step that does not end
with exit code 0 has failed. `python` in a command is that of .venv.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Step:
    """A measure, and how long its last run speaks for the code.

    `paths` is the code that it speaks of; a commit there may be `allowance` days younger than the
    last run.
    """

    name: str
    measure: str
    command: str
    paths: tuple[str, ...]
    allowance: int


_GRAPH = ("torch2mlx/export", "torch2mlx/kit", "torch2mlx/translator.py")
_WEIGHTS = ("csrc", "torch2mlx/checkpoint", "torch2mlx/catalog/weights")
STEPS = (
    Step(
        "zoo",
        "every architecture of transformers at toy size: translated, run without torch, compared",
        "./dev zoo",
        (*_GRAPH, "tests/zoo"),
        14,
    ),
    Step(
        "operators",
        "torch's own samples of its operators: exported, translated, compared, gradients too",
        "./dev ledger",
        (*_GRAPH, "tests/export/ledger.py"),
        14,
    ),
    Step(
        "strangers",
        "modules of other people's repositories (T2M_STRANGERS names a checkout of "
        "jansel/pytorch-jit-paritybench), translated and compared",
        "python -m tests.zoo.strangers --files 300",
        (*_GRAPH, "tests/zoo/strangers.py"),
        30,
    ),
    Step(
        "nets",
        "random networks (blocks and layers in rows, images, sequences), translated and compared "
        "at three sizes with gradients",
        "python -m tests.zoo.random_nets --count 300",
        (*_GRAPH, "tests/zoo/random_nets.py", "tests/zoo/random_source.py"),
        14,
    ),
    Step(
        "architectures",
        "every model class of transformers built, and the table of its layers compared",
        "./dev architectures --check",
        ("torch2mlx/checkpoint/plan/architectures.json", "tools/architectures_seen.py"),
        60,
    ),
    Step(
        "folders",
        "a folder of each architecture at toy size, as transformers writes it: converted, turned "
        "back, compared with the modules",
        "./dev folders",
        (*_WEIGHTS, "torch2mlx/converter.py", "tests/zoo/folders.py"),
        14,
    ),
    Step(
        "notebooks",
        "the notebooks of docs/notebooks, run from first cell to last, which check what they say",
        "python -m tools.notebooks",
        (*_GRAPH, "torch2mlx/porting", "torch2mlx/converter.py", "docs/notebooks"),
        14,
    ),
    Step(
        "pages",
        "the pages of five verbs, made of real results and opened in Chromium (playwright) at two "
        "widths, light and dark: they fit, load nothing, and their console stays empty",
        "./dev pages",
        ("torch2mlx/report", "torch2mlx/common/page.css", "torch2mlx/pages.py", "tools/pages.py"),
        30,
    ),
    Step(
        "site",
        "the documentation site (mkdocs, strict), and every link within it",
        "./dev site",
        ("docs", "mkdocs.yml", "tools/site.py", "tools/site_hooks.py"),
        14,
    ),
    Step(
        "generation",
        "every causal language model of transformers at toy size, translated with its cache: "
        "logits token by token, in pieces, in padded batches and past the end of its tables",
        "python -m tests.zoo.generation",
        (*_GRAPH, "torch2mlx/language.py", "torch2mlx/stateful.py", "tests/zoo/generation.py"),
        14,
    ),
    Step(
        "sizes",
        "one file for all sizes of seven families of language models: emitted at one size, loaded "
        "with the weights of another, logits compared with and without a cache",
        "python -m tests.zoo.all_sizes",
        (*_GRAPH, "torch2mlx/sized.py", "torch2mlx/language.py", "tests/zoo/all_sizes.py"),
        14,
    ),
    Step(
        "lockstep",
        "training scripts with a planted fault, and clean pairs: the first cause named, no alarm",
        "python -m tests.lockstep.planted",
        ("torch2mlx/lockstep", "torch2mlx/porting", "torch2mlx/kit", "tests/lockstep"),
        14,
    ),
    Step(
        "programs",
        "forty training programs, ported and run beside their ports for 100 steps: how many reach "
        "each of three grades",
        "python -m bench.programs --write",
        ("torch2mlx/porting", "torch2mlx/kit", "bench/programs"),
        30,
    ),
    Step(
        "scripts",
        "random training programs (optimizers, schedules, clipping, accumulation, averages), "
        "ported and run beside torch: what they note and their weights",
        "python -m tests.porting.random_programs --count 300",
        ("torch2mlx/porting", "torch2mlx/kit", "tests/porting/random_source.py"),
        14,
    ),
    Step(
        "distributed",
        "ten scripts in four processes, in torch over gloo and their ports over MLX's ring, for 50 "
        "steps from the same first weights: every number of every process",
        "python -m tests.porting.distributed.run",
        (
            "torch2mlx/kit/collectives.py",
            "torch2mlx/kit/data_parallel.py",
            "torch2mlx/kit/processes.py",
            "torch2mlx/kit/shares.py",
            "torch2mlx/catalog/processes.py",
            "torch2mlx/porting/training",
            "tests/porting/distributed",
        ),
        30,
    ),
    Step(
        "trm",
        "TinyRecursiveModels ported, and trained in MLX and torch from the same weights",
        "./dev trm",
        ("examples/trm", "torch2mlx/porting", "torch2mlx/kit"),
        14,
    ),
    Step(
        "bench",
        "speed beside numpy, torch, mlx and safetensors: ratios against their goals",
        "./dev bench",
        ("bench", *_WEIGHTS, "torch2mlx/export"),
        14,
    ),
    Step(
        "fuzz",
        "every reader of the core under libFuzzer, AddressSanitizer and UndefinedBehaviorSanitizer",
        "sh tools/fuzz.sh 300",
        ("csrc/core", "fuzz"),
        14,
    ),
    Step(
        "arm64",
        "the core compiled for arm64 and run by qemu-user: kernels give the same bits as here, "
        "readers run over the seeds of the fuzzers",
        "./dev arm64",
        ("csrc/core", "tests/core/kernels.c", "tools/arm64.sh"),
        14,
    ),
    Step(
        "headers",
        "mutated safetensors files, read here and by the format's own library",
        "python -m tests.checkpoint.source.headers --files 400000",
        ("csrc/core/safetensors.c", "csrc/core/json.c", "tests/checkpoint/source/headers.py"),
        14,
    ),
    Step(
        "mutations",
        "changed checkpoints of every kind, given to every verb that reads: answered or refused by "
        "name, in 2 s and 64 MiB beside their size",
        "python -m tests.checkpoint.source.mutations --files 100000",
        (*_WEIGHTS, "tests/checkpoint/source/mutations.py"),
        14,
    ),
    Step(
        "sanitize",
        "the tests that reach the core under AddressSanitizer and UndefinedBehaviorSanitizer, "
        "the core under valgrind",
        "./dev sanitize",
        ("csrc",),
        14,
    ),
    Step(
        "stress",
        "conversions killed and interrupted at random, stopped at every call to the system, and "
        "three at once on one target",
        "python -m tests.checkpoint.write.stress --calls",
        (
            "torch2mlx/checkpoint/write",
            "torch2mlx/converter.py",
            "tests/checkpoint/write/stress.py",
        ),
        14,
    ),
)
