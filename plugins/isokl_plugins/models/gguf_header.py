"""The header of a GGUF file, read strictly: every size and offset is checked against the file, before any library that
would believe it sees the file. Needs the standard library alone, so that a run's identity costs milliseconds."""

from __future__ import annotations

import math
import mmap
import re
import struct
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from isokl_plugins.models.folder import Piece
from isokl_plugins.models.gguf_types import ARRAY, QUANTISATIONS, SCALARS, STRING, TENSOR_TYPES
from isokl_registry import IsoklError

VERSIONS = (2, 3)
NAME_BYTES = 65_535  # of a key, as the format has it; tensors' names are shorter
TEXT_BYTES = 2**20  # of a single text: a chat template of a megabyte is none
KEYS, TENSORS = 100_000, 1_000_000
DIMENSIONS = 4
MAGIC = b"GGUF"


@dataclass(frozen=True)
class Header:
    """What a run needs to know before the weights are read. values: number of weights."""

    architecture: str
    name: str
    quantisation: str
    blocks: int
    values: int


class _Bad(Exception):
    """What is wrong with the file."""


@lru_cache(maxsize=64)
def read_header(pieces: tuple[Piece, ...]) -> Header:
    """The header of a file that may lie in pieces, the first of which holds all of it.

    Raises IsoklError when it is no GGUF file, or a part of it is missing or makes no sense."""
    path, total = pieces[0].path, sum(piece.size for piece in pieces)
    try:
        if not pieces[0].size:
            raise _Bad("is empty: download it again")
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _header(_Cursor(data), total, path.stem)
    except OSError as error:
        raise IsoklError(
            f"model file {path} cannot be read ({error.strerror or error}): check the path"
        ) from None
    except _Bad as bad:
        raise IsoklError(f"model file {path} {bad}") from None


class _Cursor:
    """Reads on from `at`, and never past the end."""

    def __init__(self, data: mmap.mmap) -> None:
        self.data, self.at, self.size = data, 0, len(data)

    def skip(self, count: int) -> int:
        """Where the next `count` bytes begin."""
        start = self.at
        if count > self.size - start:
            raise _Bad(f"is cut off in its header, at byte {self.size}: download it again")
        self.at += count
        return start

    def numbers(self, form: str) -> tuple[Any, ...]:
        return struct.unpack_from("<" + form, self.data, self.skip(struct.calcsize("<" + form)))

    def number(self, form: str = "Q") -> int:
        return int(self.numbers(form)[0])

    def text(self, limit: int, what: str) -> str:
        length = self.number()
        if length > limit:
            raise _Bad(f"has a {what} of {length} bytes, where {limit} is the most: it is damaged")
        start = self.skip(length)
        try:
            return self.data[start : start + length].decode()
        except UnicodeDecodeError:
            raise _Bad(f"has a {what} that is not text: it is damaged") from None

    def counted(self, limit: int, what: str) -> int:
        count = self.number()
        if count > limit:
            raise _Bad(f"says that it has {count} {what}, where {limit} is the most: it is damaged")
        return count


def _header(cursor: _Cursor, total: int, stem: str) -> Header:
    if cursor.size < 4 or cursor.data[:4] != MAGIC:
        raise _Bad("is no GGUF file: it does not begin with GGUF")
    cursor.skip(4)
    version = cursor.number("I")
    if version not in VERSIONS:
        raise _Bad(f"is GGUF of version {version}, which is not read: convert it to version 3, little-endian")
    tensors, keys = cursor.counted(TENSORS, "tensors"), cursor.counted(KEYS, "keys")
    found: dict[str, Any] = {}
    for _ in range(keys):
        key = cursor.text(NAME_BYTES, "key")
        if key in found:
            raise _Bad(f"has the key {key!r:.80} twice: it is damaged")
        found[key] = _value(cursor, cursor.number("I"), key)
    if _integer(found, "split.count", 1) > 1:
        raise _Bad("is one of several parts of a model: join them with `llama-gguf-split --merge`")
    names, values = _tensors(cursor, tensors, total, _alignment(found))
    architecture = _text(found, "general.architecture")
    if not architecture:
        raise _Bad("has no general.architecture, so it is not a language model")
    name = " ".join((_text(found, "general.name") or stem).split())[:60]
    quantisation = QUANTISATIONS.get(_integer(found, "general.file_type", -1), "")
    blocks = _blocks(names, _integer(found, f"{architecture}.block_count", 0), architecture)
    return Header(architecture, name, quantisation, blocks, values)


def _value(cursor: _Cursor, kind: int, key: str) -> Any:
    """A number or a text; of an array, how long it is."""
    if kind in SCALARS:
        return cursor.numbers(SCALARS[kind])[0]
    if kind == STRING:
        return cursor.text(TEXT_BYTES, f"value of {key!r:.80}")
    if kind != ARRAY:
        raise _Bad(f"has a value of the unknown type {kind} at {key!r:.80}: it is damaged")
    inner, count = cursor.number("I"), cursor.number()
    if inner in SCALARS:
        cursor.skip(count * struct.calcsize("<" + SCALARS[inner]))
    elif inner == STRING:
        for _ in range(count):  # ends at the latest where the file does
            cursor.skip(cursor.number())
    else:
        raise _Bad(f"has an array of the type {inner} at {key!r:.80}, which is not read")
    return ("array", count)


def _tensors(cursor: _Cursor, count: int, total: int, alignment: int) -> tuple[set[str], int]:
    """The names of all tensors, and the number of their values. Every tensor lies in the file, and no two overlap."""
    spans, names, values = [], set(), 0
    for _ in range(count):
        name = cursor.text(NAME_BYTES, "tensor name")
        if name in names:
            raise _Bad(f"has the tensor {name!r:.80} twice: it is damaged")
        names.add(name)
        dimensions = cursor.number("I")
        if not 1 <= dimensions <= DIMENSIONS:
            raise _Bad(f"has a tensor {name!r:.80} of {dimensions} dimensions: it is damaged")
        shape = cursor.numbers("Q" * dimensions)
        kind, offset = cursor.numbers("IQ")
        if kind not in TENSOR_TYPES:
            raise _Bad(f"has a tensor {name!r:.80} of the unknown type {kind}, which is not read")
        block, size = TENSOR_TYPES[kind]
        if not all(shape) or shape[0] % block or offset % alignment:
            raise _Bad(f"has a tensor {name!r:.80} of impossible shape or place: it is damaged")
        spans.append((offset, math.prod(shape) // block * size, name))
        values += math.prod(shape)
    start = -(-cursor.at // alignment) * alignment
    end = 0
    for offset, size, name in sorted(spans):
        if offset < end:
            raise _Bad(f"has a tensor {name!r:.80} on top of another: it is damaged")
        end = offset + size
        if start + end > total:
            raise _Bad(
                f"is cut off: tensor {name!r:.80} ends at byte {start + end} of {total}; download it again"
            )
    return names, values


def _blocks(names: set[str], blocks: int, architecture: str) -> int:
    """The number of blocks, each of which has a tensor: a count that is only said would be believed with memory."""
    numbers = {int(match[1]) for name in names if (match := re.match(r"blk\.(\d{1,6})\.", name))}
    if not blocks or numbers != set(range(len(numbers))) or blocks != len(numbers):
        raise _Bad(
            f"has tensors of {len(numbers)} blocks, and {architecture}.block_count is {blocks}: it is damaged"
        )
    return blocks


def _alignment(found: dict[str, Any]) -> int:
    alignment = _integer(found, "general.alignment", 32)
    if alignment < 1 or alignment & (alignment - 1) or alignment > 2**20:
        raise _Bad(f"has the alignment {alignment}, no power of two: it is damaged")
    return alignment


def _integer(found: dict[str, Any], key: str, default: int) -> int:
    value = found.get(key, default)
    if type(value) is not int:
        raise _Bad(f"has {value!r:.80} for {key}, not a whole number: it is damaged")
    return value


def _text(found: dict[str, Any], key: str) -> str:
    value = found.get(key, "")
    if not isinstance(value, str):
        raise _Bad(f"has {value!r:.80} for {key}, no text: it is damaged")
    return "".join(c for c in value if c.isprintable())
