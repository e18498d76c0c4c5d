"""Headers of safetensors files, good, odd and broken, and what the format's own library says.

`python -m tests.checkpoint.source.headers --files N --seed S` compares that many mutated files.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any

from tests.checkpoint.source.builders import entry, safetensors
from torch2mlx import _core

ENTRY = '{"dtype":"U8","shape":[1],"data_offsets":[0,1]}'


def one(text: str, data: bytes = b"x") -> bytes:
    """A file of one tensor whose entry is this text."""
    return safetensors(b'{"a":' + text.encode() + b"}", data)


def fields(dtype: str = '"U8"', shape: str = "[1]", offsets: str = "[0,1]") -> str:
    return f'{{"dtype":{dtype},"shape":{shape},"data_offsets":{offsets}}}'


def with_field(text: str) -> bytes:
    return one(ENTRY[:-1] + "," + text + "}")


def _metadata() -> Iterator[bytes]:
    values = (
        '{} [] null true false 0 1 "x" {"a":"b"} {"a":1} {"a":null} {"a":[]} {"a":{}} nul nulll'
    )
    for value in values.split():
        yield safetensors(f'{{"__metadata__":{value}}}'.encode())
        yield safetensors(f'{{"__metad\\u0061ta__":{value},"a":{ENTRY}}}'.encode(), b"x")
    yield safetensors(f'{{"__metadata__":{ENTRY}}}'.encode(), b"x")
    yield safetensors(b'{"__metadata__":null,"__metadata__":null}')
    yield safetensors(b'{"__metadata__":{"a":"1","a":"2","\\u0061":"3"}}')
    yield safetensors(b'{"__metadata__" : {"\\ud83d\\ude00" :"\\u0000", "":""} }')


def _envelopes() -> Iterator[bytes]:
    for text in (
        "",
        "{",
        "{}",
        " {}",
        "\n\t\r {}\n\t\r ",
        "{}\0",
        "{}\x0b",
        "[]",
        "null",
        "{,}",
        "{}{}",
    ):
        yield safetensors(text.encode())
        yield safetensors(text.encode(), b"x")
    yield safetensors(b"\xef\xbb\xbf{}")
    yield safetensors(b"{}\xff")
    yield safetensors(f'{{"a":{ENTRY},}}'.encode(), b"x")
    for length in (0, 1, 2, 3, 2**31, 100_000_000, 100_000_001, 2**63, 2**64 - 1):
        yield safetensors(b"{}", b"", length)
    for length in range(8):
        yield b"{" * length


def _numbers() -> Iterator[bytes]:
    words = "1 1.0 1e0 1E0 10e-1 -0 -1 +1 01 00 .1 1. 0x1 1e 1e+ - NaN Infinity true null [] {}"
    huge = [2**31, 2**32, 2**53 + 1, 2**63 - 1, 2**63, 2**64 - 1, 2**64, 10**40]
    for word in (*words.split(), *map(str, huge), "'1'", '"1"'):
        yield one(fields(shape=f"[{word}]"))
        yield one(fields(shape=f"[0,{word}]", offsets="[0,0]"), b"")
        yield one(fields(shape=f"[{word},0]", offsets="[0,0]"), b"")
        yield one(fields(shape=f"[{word},{word},0]", offsets="[0,0]"), b"")
        yield one(fields(shape=f"[0,{word},{word}]", offsets="[0,0]"), b"")
        yield one(fields(offsets=f"[0,{word}]"))
        yield one(fields(offsets=f"[{word},1]"))
        yield with_field(f'"x":{word}')


def _ranges() -> Iterator[bytes]:
    """Numbers around the end of a double's range, in fields that nobody reads."""
    digits = ("1", "9", "17976931348623157", "17976931348623158", "18446744073709551615", "0")
    for text in digits:
        for exponent in (
            0,
            280,
            288,
            289,
            290,
            291,
            292,
            293,
            300,
            307,
            308,
            309,
            310,
            99999999999,
        ):
            for form in ("{}e{}", "-{}e{}", "{}.5e{}", "{}e-{}", "0.{}e{}", "{}E+{}"):
                yield with_field('"x":' + form.format(text, exponent))
        for zeros in (287, 288, 289, 290, 291, 292, 305, 306, 307, 308, 309):
            yield with_field(f'"x":{text}{"0" * zeros}')
            yield with_field(f'"x":{text}{"0" * zeros}.5e1')
            yield with_field(f'"x":{text}{"9" * zeros}.{"9" * 30}')
            yield with_field(f'"x":0.{"0" * zeros}{text}e{zeros + 308}')


def _entries() -> Iterator[bytes]:
    values = ("null", "true", "1", '""', "[]", "{}", '["U8"]', '["U8",[1]]', '["U8",[1],[0,1]]')
    for value in (*values, '["U8",[1],[0,1],1]', '[[0,1],[1],"U8"]', ENTRY[:-1], ENTRY + "}"):
        yield one(value)
    dtypes = (
        '{"U8":null}',
        '{"U8":[]}',
        '{"U8":{}}',
        '{"U8":1}',
        '{"U8":null,"x":1}',
        "{}",
        "null",
    )
    for dtype in (*dtypes, '["U8"]', "0", '"u8"', '"U8 "', '""', '"\\u00558"', '{"\\u00558":null}'):
        yield one(fields(dtype=dtype))
        yield one(f"[{dtype},[1],[0,1]]")
    for shape in ("null", "1", '""', "{}", "[1,]", "[,1]", "[1 1]", "[]", "[[1]]", " [ 1 ] "):
        yield one(fields(shape=shape))
    for rank in (16, 17, 64, 65, 1000):
        yield one(fields(shape=str([1] * rank)))
        yield one(fields(shape=str([0] * rank), offsets="[0,0]"), b"")
    for offsets in ("[]", "[0]", "[0,1,1]", '{"0":0,"1":1}', "null", "[1,0]", "[0,2]", "[1,1]"):
        yield one(fields(offsets=offsets))
        yield one(fields(offsets=offsets), b"xy")
    for name in ("dtype", "shape", "data_offsets", "x", "", "\\u0064type", "Dtype", "0"):
        yield with_field(f'"{name}":1')
        yield with_field(f'"{name}":"U8"')
        yield with_field(f'"{name}":{{"a":[1,null,"\\ud83d\\ude00"]}},"{name}":2')
    for text in ("\\ud800", "\\udc00", "\\ud800\\u0041", "\\x", "\\u12", "\n", "\x7f", "\\/"):
        yield with_field(f'"x":"{text}"')
        yield with_field(f'"{text}":0')
        yield safetensors(f'{{"{text}":{ENTRY}}}'.encode(), b"x")
    for raw in (b"\xff", b"\xed\xa0\x80", b"\xc0\x80", b"\xf4\x90\x80\x80", b"\xf0\x9f\x98\x80"):
        yield safetensors(b'{"' + raw + b'":' + ENTRY.encode() + b"}", b"x")
    for depth in (30, 31, 32, 33, 124, 125, 126, 127):
        yield with_field('"x":' + "[" * depth + "]" * depth)
        yield with_field('"x":' + '{"y":' * depth + "1" + "}" * depth)


def _dtypes() -> Iterator[bytes]:
    tags = [tag for _, _, tag, *_ in _core.DTYPES]
    tags += ["F4", "F6_E2M3", "F6_E3M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"]
    for tag in tags:
        for count in (0, 1, 2, 3, 4, 8):
            for bits in (4, 6, 8, 16, 32, 64):
                size = count * bits // 8
                header = {"a": entry(tag, [count], 0, size)}
                yield safetensors(header, bytes(size))


def _layouts() -> Iterator[bytes]:
    spans = ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2), (2, 4))
    for first in spans:
        for second in spans:
            for names in ("ab", "aa"):
                parts = [
                    f'"{name}":{fields(shape=f"[{e - b}]", offsets=f"[{b},{e}]")}'
                    for name, (b, e) in zip(names, (first, second), strict=True)
                ]
                text = ("{" + ",".join(parts) + "}").encode()
                for size in (0, 1, 2, 4):
                    yield safetensors(text, bytes(size))
    wrong = fields(shape="[9]")
    yield safetensors(f'{{"a":{wrong},"\\u0061":{ENTRY}}}'.encode(), b"x")
    yield safetensors(f'{{"a":{ENTRY},"a":{wrong}}}'.encode(), b"x")
    unaligned = {"a": entry("U8", [1], 0, 1), "b": entry("F32", [1], 1, 5)}
    yield safetensors(unaligned, bytes(5))


def named() -> list[bytes]:
    """Files built clause by clause."""
    kinds = (_metadata, _envelopes, _numbers, _ranges, _entries, _dtypes, _layouts)
    return [content for kind in kinds for content in kind()]


def theirs(content: bytes) -> dict[str, tuple[str, tuple[int, ...], bytes]] | str:
    """What safetensors reads: tensors by name, or why it refuses."""
    from safetensors import SafetensorError, deserialize

    try:
        found = deserialize(content)
    except SafetensorError as error:
        return str(error)
    return {
        name: (info["dtype"], tuple(info["shape"]), bytes(info["data"])) for name, info in found
    }


_TAGS = {torch: tag for torch, _, tag, *_ in _core.DTYPES}


def ours(content: bytes) -> dict[str, tuple[str, tuple[int, ...], bytes | None]] | str:
    """The same of our reader; the bytes of a tensor that has no form here are not compared."""
    try:
        pairs, _ = _core.read_safetensors(content)
    except _core.CoreError as error:
        return str(error.args[0])
    assert len(dict(pairs)) == len(pairs)
    found: dict[str, tuple[str, tuple[int, ...], bytes | None]] = {}
    for name, tensor in pairs:
        dtype, shape = str(tensor.dtype), tensor.shape
        assert shape is not None
        data = None if isinstance(tensor, _core.Foreign) else bytes(tensor)
        found[name] = (_TAGS.get(dtype, dtype), shape, data)
    return found


def difference(content: bytes) -> str:
    """What the two readers disagree in; "" where they agree.

    A dtype that the installed library does not know yet refuses the file there and the tensor
    here: that is the one difference that is wanted.
    """
    expected, found = theirs(content), ours(content)
    if isinstance(expected, str) or isinstance(found, str):
        if isinstance(expected, str) and isinstance(found, str):
            return ""
        if isinstance(expected, str) and re.search(
            r"unknown variant `[A-Z][A-Z0-9_]{0,31}`", expected
        ):
            return ""
        return f"theirs {str(expected)[:200]!r}, ours {str(found)[:200]!r}"
    for name in (*expected, *found):
        a, b = expected.get(name), found.get(name)
        if a is None or b is None or a[:2] != b[:2] or b[2] not in (None, a[2]):
            return f"{name!r}: theirs {a}, ours {b}"
    return ""


_SYNTAX = (
    '{ } [ ] , : " 0 1 2 9 - + . e E null true false \\ \\u0041 \\ud800 a dtype shape [[]] 1e309 '
    '"F4" "F6_E2M3" "F8_E8M0" "C128" "Q9" "__metadata__" "data_offsets" "x":1, '
    "18446744073709551615 18446744073709551616 9223372036854775808"
)
_BITS = ["", " ", "\n", "\t", "\0", *(f'"{tag}"' for _, _, tag, *_ in _core.DTYPES)]
_BITS += _SYNTAX.split(" ")


def edited_text(text: bytes, random: random.Random) -> bytes:
    at = random.randrange(len(text) + 1)
    end = min(len(text), at + random.choice((0, 0, 1, 1, 2, 5, 20)))
    choice = random.random()
    if choice < 0.5:
        return text[:at] + random.choice(_BITS).encode() + text[end:]
    if choice < 0.7:
        return text[:at] + text[end:]
    if choice < 0.85:
        other = random.randrange(len(text) + 1)
        return text[:at] + text[other : other + random.randrange(40)] + text[end:]
    return text[:at] + bytes([random.randrange(256)]) + text[end:]


def edited_value(value: Any, random: random.Random) -> Any:
    """A JSON value with one part of it changed."""
    numbers = (0, 1, 2, 3, 4, 8, 2**31, 2**63, 2**64 - 1, 2**64, -1, 1.5)
    others = (None, True, "F32", "U8", "F4", "a", [], {}, [0, 0], {"U8": None})
    if random.random() < 0.15 or not isinstance(value, (dict, list)) or not value:
        return random.choice(numbers if random.random() < 0.6 else others)
    keys = list(value) if isinstance(value, dict) else range(len(value))
    key, made = random.choice(list(keys)), value.copy()
    how = random.random()
    if how < 0.6:
        made[key] = edited_value(value[key], random)
    elif how < 0.75:
        del made[key]
    elif isinstance(made, dict):
        made[random.choice(("a", "b", "dtype", "x", "__metadata__"))] = value[key]
    else:
        made.append(value[key])
    return made


def _respelled(value: Any, random: random.Random, depth: int = 0) -> str:
    """JSON of the same meaning to a reader that skips what it does not know."""
    space = lambda: random.choice(("", "", "", " ", "\n\t"))
    if isinstance(value, str):
        letters = (f"\\u{ord(c):04x}" if random.random() < 0.1 else c for c in value)
        return json.dumps(value) if random.random() < 0.7 else f'"{"".join(letters)}"'
    if isinstance(value, list):
        items = (space() + _respelled(item, random, depth + 1) + space() for item in value)
        return f"[{','.join(items)}]"
    if not isinstance(value, dict):
        return json.dumps(value)
    if set(value) == {"dtype", "shape", "data_offsets"} and random.random() < 0.1:
        return _respelled([value["dtype"], value["shape"], value["data_offsets"]], random)
    pairs = [(key, _respelled(item, random, depth + 1)) for key, item in value.items()]
    if depth == 1 and random.random() < 0.2:
        pairs.append((random.choice(("x", "format", "")), random.choice(("1", "null", "[{}]"))))
    if depth == 0 and pairs and random.random() < 0.2:
        pairs.insert(0, random.choice(pairs))
    random.shuffle(pairs)
    members = (f"{space()}{_respelled(k, random)}{space()}:{space()}{v}" for k, v in pairs)
    return f"{space()}{{{','.join(members)}{space()}}}{space()}"


def mutated(seeds: list[bytes], random: random.Random) -> bytes:
    """One seed with one to four changes; mostly the header's length is made to fit."""
    content = random.choice(seeds)
    length = int.from_bytes(content[:8], "little") if len(content) >= 8 else 0
    text, data = content[8 : 8 + length], content[8 + length :]
    for _ in range(random.choice((1, 1, 1, 2, 4))):
        how = random.random()
        if how < 0.4:
            text = edited_text(text, random)
        elif how < 0.9:
            change = _respelled if how < 0.7 else lambda v, r: json.dumps(edited_value(v, r))
            try:
                text = change(json.loads(text), random).encode()
            except (ValueError, RecursionError):
                text = edited_text(text, random)
        else:
            data = data + bytes(random.randrange(4)) if how < 0.95 else data[:-1]
    return safetensors(text, data, None if random.random() < 0.98 else random.randrange(300))


def main() -> int:
    """Compares; prints the first differences and the counts."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    seeds, source, counts = named(), random.Random(args.seed), Counter[str]()
    seeds += [content for content in seeds if isinstance(theirs(content), dict)] * 3
    for content in (*seeds, *(mutated(seeds, source) for _ in range(args.files))):
        counts["accepted" if isinstance(theirs(content), dict) else "refused"] += 1
        problem = difference(content)
        if problem:
            counts["different"] += 1
            if counts["different"] <= 20:
                print(content[:600], problem, sep="\n  ")
    print("headers:", ", ".join(f"{count} {name}" for name, count in sorted(counts.items())))
    return int(counts["different"] > 0)


if __name__ == "__main__":
    sys.exit(main())
