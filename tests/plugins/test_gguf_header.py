"""The strict reader of GGUF headers: what it finds, and what it refuses before anything else reads the file."""

from __future__ import annotations

import struct
from dataclasses import replace
from pathlib import Path

import gguf
import pytest

from isokl_plugins.models.folder import Piece, piece
from isokl_plugins.models.gguf_header import Header, read_header
from isokl_plugins.models.gguf_types import QUANTISATIONS, SCALARS, TENSOR_TYPES
from isokl_registry import IsoklError
from tests.tiny_gguf import write_gguf

U32, STRING, ARRAY = 4, 8, 9


def text(value: bytes) -> bytes:
    return struct.pack("<Q", len(value)) + value


def key(name: str, kind: int, value: bytes) -> bytes:
    return text(name.encode()) + struct.pack("<I", kind) + value


def number(name: str, value: int) -> bytes:
    return key(name, U32, struct.pack("<I", value))


def tensor(name: str, shape: tuple[int, ...], offset: int, kind: int = 0) -> bytes:
    return (
        text(name.encode())
        + struct.pack(f"<I{len(shape)}Q", len(shape), *shape)
        + struct.pack("<IQ", kind, offset)
    )


KEYS = [key("general.architecture", STRING, text(b"llama")), number("llama.block_count", 1)]
TENSORS = [tensor("blk.0.a", (32,), 0), tensor("output", (32, 2), 128)]


def build(
    keys: list[bytes] = KEYS,
    tensors: list[bytes] = TENSORS,
    *,
    data: int = 384,
    version: int = 3,
    counts: tuple[int, int] | None = None,
) -> bytes:
    """A file with these parts and `data` zeros behind them. counts: what it says of the numbers of tensors and keys."""
    head = b"GGUF" + struct.pack("<IQQ", version, *(counts or (len(tensors), len(keys))))
    head += b"".join(keys) + b"".join(tensors)
    return head + bytes(-len(head) % 32) + bytes(data)


def header(tmp_path: Path, content: bytes) -> Header:
    file = tmp_path / "model.gguf"
    file.write_bytes(content)
    return read_header((piece(file),))


def test_what_a_header_says(tmp_path):
    assert header(tmp_path, build()) == Header("llama", "model", "", 1, 96)  # without a name, the file's
    named = [
        *KEYS,
        key("general.name", STRING, text(b"  Some\n name\x1b[31m ")),
        number("general.file_type", 3),
    ]
    assert header(tmp_path, build(named)) == Header("llama", "Some name[31m", "Q4_1", 1, 96)
    written = read_header((piece(write_gguf(tmp_path / "tiny.gguf")),))
    assert replace(written, values=0) == Header("llama", "Tiny Llama", "F32", 2, 0)
    assert written.values == sum(t.n_elements for t in gguf.GGUFReader(tmp_path / "tiny.gguf").tensors)


def test_a_file_in_pieces_is_as_long_as_all_of_them(tmp_path):
    whole = build()
    for name, part in (("a", whole[:-100]), ("b", whole[-100:])):
        (tmp_path / name).write_bytes(part)
    assert read_header((piece(tmp_path / "a"), piece(tmp_path / "b"))).values == 96
    with pytest.raises(IsoklError, match="is cut off: tensor 'output' ends"):
        read_header((piece(tmp_path / "a"),))


def test_the_numbers_are_those_of_the_gguf_package():
    sizes = {int(kind): size for kind, size in gguf.GGML_QUANT_SIZES.items()}
    assert sizes == TENSOR_TYPES
    kinds = {int(kind): kind.name.removeprefix("MOSTLY_").removeprefix("ALL_") for kind in gguf.LlamaFileType}
    assert kinds == QUANTISATIONS | {1024: "GUESSED"}
    others = {gguf.GGUFValueType.STRING, gguf.GGUFValueType.ARRAY}
    assert set(SCALARS) == set(gguf.GGUFValueType) - others


LONG = struct.pack("<Q", 2**62)
REFUSED = {
    "empty": (b"", "is empty: download it again"),
    "magic": (b"PK\x03\x04" + build()[4:], "is no GGUF file: it does not begin with GGUF"),
    "page": (b"<html>", "is no GGUF file: it does not begin with GGUF"),
    "version": (build(version=1), "is GGUF of version 1, which is not read: convert it to version 3, little-endian"),
    "short": (build()[:10], "is cut off in its header, at byte 10: download it again"),
    "keys": (build()[:60], "is cut off in its header, at byte 60: download it again"),
    "many keys": (build(counts=(2, 2**40)), f"says that it has {2**40} keys, where 100000 is the most: it is damaged"),
    "many tensors": (
        build(counts=(2**63, 2)),
        f"says that it has {2**63} tensors, where 1000000 is the most: it is damaged",
    ),
    "long key": (
        build([LONG, *KEYS], counts=(2, 3)),
        f"has a key of {2**62} bytes, where 65535 is the most: it is damaged",
    ),
    "key": (build([text(b"\xff\xfe")], counts=(2, 1)), "has a key that is not text: it is damaged"),
    "long text": (
        build([key("a", STRING, LONG), *KEYS]),
        f"has a value of 'a' of {2**62} bytes, where 1048576 is the most: it is damaged",
    ),
    "type": (build([key("a", 13, b""), *KEYS]), "has a value of the unknown type 13 at 'a': it is damaged"),
    "numbers": (build([key("a", ARRAY, struct.pack("<IQ", U32, 2**62))]), "is cut off in its header, at byte 544"),
    "texts": (build([key("a", ARRAY, struct.pack("<IQ", STRING, 2**62))], [], data=1000), "is cut off in its header"),
    "nested": (
        build([key("a", ARRAY, struct.pack("<IQ", ARRAY, 2))]),
        "has an array of the type 9 at 'a', which is not read",
    ),
    "twice": (build([*KEYS, KEYS[0]]), "has the key 'general.architecture' twice: it is damaged"),
    "alignment": (
        build([*KEYS, number("general.alignment", 48)]),
        "has the alignment 48, no power of two: it is damaged",
    ),
    "no number": (
        build([KEYS[0], key("llama.block_count", STRING, text(b"1"))]),
        "has '1' for llama.block_count, not a whole number: it is damaged",
    ),
    "no text": (build([number("general.architecture", 1)]), "has 1 for general.architecture, no text: it is damaged"),
    "no architecture": (build([]), "has no general.architecture, so it is not a language model"),
    "part": (
        build([*KEYS, number("split.count", 3)]),
        "is one of several parts of a model: join them with `llama-gguf-split --merge`",
    ),
    "blocks": (
        build([KEYS[0], number("llama.block_count", 2**32 - 1)]),
        f"has tensors of 1 blocks, and llama.block_count is {2**32 - 1}: it is damaged",
    ),
    "gap": (
        build([KEYS[0], number("llama.block_count", 2)], [*TENSORS[1:], tensor("blk.5.a", (32,), 0)]),
        "has tensors of 1 blocks, and llama.block_count is 2: it is damaged",
    ),
    "cut": (build(data=383), "is cut off: tensor 'output' ends at byte 576 of 575; download it again"),
    "beyond": (
        build(tensors=[TENSORS[0], tensor("output", (32, 2), 2**60)]),
        f"is cut off: tensor 'output' ends at byte {192 + 2**60 + 256} of 576; download it again",
    ),
    "shape": (
        build(tensors=[TENSORS[0], tensor("output", (2**63, 2**63), 128)]),
        "is cut off: tensor 'output' ends at byte",
    ),
    "no values": (
        build(tensors=[TENSORS[0], tensor("output", (0, 2), 128)]),
        "has a tensor 'output' of impossible shape or place: it is damaged",
    ),
    "half a block": (
        build(tensors=[TENSORS[0], tensor("output", (31, 2), 128, kind=3)]),
        "has a tensor 'output' of impossible shape or place: it is damaged",
    ),
    "place": (
        build(tensors=[TENSORS[0], tensor("output", (32, 2), 130)]),
        "has a tensor 'output' of impossible shape or place: it is damaged",
    ),
    "dimensions": (
        build(tensors=[TENSORS[0], text(b"output") + struct.pack("<I", 2**31)]),
        f"has a tensor 'output' of {2**31} dimensions: it is damaged",
    ),
    "tensor type": (
        build(tensors=[TENSORS[0], tensor("output", (32, 2), 128, kind=4)]),
        "has a tensor 'output' of the unknown type 4, which is not read",
    ),
    "same tensor": (build(tensors=[*TENSORS, TENSORS[0]]), "has the tensor 'blk.0.a' twice: it is damaged"),
    "overlap": (
        build(tensors=[TENSORS[0], tensor("output", (32, 2), 96)]),
        "has a tensor 'output' on top of another: it is damaged",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_a_damaged_or_hostile_file_is_one_line(case, tmp_path):
    content, message = REFUSED[case]
    with pytest.raises(IsoklError) as raised:
        header(tmp_path, content)
    assert str(raised.value).startswith(f"model file {tmp_path / 'model.gguf'} {message}")
    assert "\n" not in str(raised.value)


def test_every_cut_of_a_real_file_is_refused(tmp_path):
    whole = write_gguf(tmp_path / "tiny.gguf").read_bytes()
    for length in range(0, len(whole), 997):
        with pytest.raises(IsoklError, match=r"is cut off|is empty|is no GGUF"):
            header(tmp_path, whole[:length])


def test_a_folder_or_nothing_is_one_line(tmp_path):
    with pytest.raises(
        IsoklError, match=r"none\.gguf cannot be read \(No such file or directory\): check the path"
    ):
        piece(tmp_path / "none.gguf")
    with pytest.raises(IsoklError, match=r"cannot be read \(Is a directory\)"):
        read_header((Piece(tmp_path, 10, 0),))
