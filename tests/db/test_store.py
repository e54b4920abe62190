"""Finding and reading what was stored."""

import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from isokl_db import HASH_VERSION, Attempt, Store, StoreError, config_hash

Begin = Callable[..., Attempt]


def test_latest_is_the_newest_that_is_done(begin: Begin, store: Store) -> None:
    first, second, third, other = begin(), begin(), begin(), begin(seed=1)
    assert store.latest(first.hash) is None
    second.done()
    first.done()
    third.fail("out of memory")
    other.done()
    assert store.latest(first.hash) == second.id
    assert store.rows("select hash, attempt_id from latest order by attempt_id") == [
        {"hash": second.hash, "attempt_id": second.id},
        {"hash": other.hash, "attempt_id": other.id},
    ]
    assert store.latest("no such hash") is None


def test_a_config_is_stored_once_with_its_prompts(
    begin: Begin, store: Store, config: Any, prompts: Any
) -> None:
    assert begin().hash == begin().hash == config_hash(config())
    (row,) = store.rows("select * from configs")
    assert json.loads(row.pop("config")) == config()
    columns = {name: config()[name] for name in config() if name != "layers"}
    assert row.pop("created_at").endswith("+00:00")
    assert row == {"hash": config_hash(config()), "hash_version": HASH_VERSION, **columns}
    stored = store.rows("select split, position, text, sha256 from prompts")
    assert {(row["split"], row["position"], row["text"]) for row in stored} == {
        (split, position, text) for split, texts in prompts.items() for position, text in enumerate(texts)
    }
    assert all(row["sha256"] == sha256(row["text"].encode()).hexdigest() for row in stored)


@pytest.mark.parametrize(
    ("prompts", "complaint"),
    [
        (
            {"fit": ["a", "b"], "holdout": ["c", "b"]},
            "the prompt 'b' is both fit 1 and holdout 1; remove one",
        ),
        ({"fit": ["a", "a"]}, "the prompt 'a' is both fit 0 and fit 1"),
        ({"test": ["a"]}, "no split 'test'; prompts are split into fit, calibration, holdout"),
    ],
)
def test_overlapping_prompts_begin_nothing(
    store: Store, prompts: dict[str, list[str]], complaint: str
) -> None:
    with pytest.raises(StoreError, match=complaint):
        store.begin({"seed": 0}, prompts=prompts, provenance={})
    assert store.rows("select * from runs") == store.rows("select * from configs") == []


def test_find_by_id_or_by_the_start_of_the_hash(begin: Begin, store: Store) -> None:
    hashes = {begin(seed=seed).hash for seed in range(20)}
    assert store.find(7) == store.find("7") == 7
    hash = store.attempt(7).hash
    assert store.find(hash) == store.find(hash[:12]) == store.find(hash[:12].upper()) == 7
    again = begin(seed=6)
    assert (again.hash, store.find(hash[:12])) == (hash, again.id)
    store.attempt(7).done()
    assert store.find(hash[:12]) == 7
    shared = next(letter for letter in "abcdef" if sum(hash.startswith(letter) for hash in hashes) > 1)
    with pytest.raises(StoreError, match=f"'{shared}' is the start of several hashes in .*; give more of it"):
        store.find(shared)
    for nonsense in ("", "zz", "%", "99999999999999999999999", "²"):
        with pytest.raises(StoreError, match=r"no run .*no attempt has this id, no hash this start"):
            store.find(nonsense)


def test_a_record_is_json_and_holds_everything(begin: Begin, store: Store, config: Any, prompts: Any) -> None:
    attempt = begin()
    attempt.commit_phase("fit", 1.0, data={"layers": [3]}, steering=b"tensors")
    record = store.record(attempt.id)
    assert json.loads(json.dumps(record, allow_nan=False)) == record
    assert record["config"] == config()
    assert record["steering_nbytes"] == 7
    assert {
        split: [p["text"] for p in record["prompts"] if p["split"] == split] for split in prompts
    } == prompts
    assert [phase["name"] for phase in record["phases"]] == ["fit"]
    for missing in (store.record, store.attempt):
        with pytest.raises(StoreError, match=r"no attempt 99 in .*isokl\.db; .* lists them"):
            missing(99)


def test_rows_take_parameters(begin: Begin, store: Store) -> None:
    begin(seed=3)
    assert store.rows("select seed, ':x' c from runs where seed = :seed", seed=3) == [{"seed": 3, "c": ":x"}]
    assert store.rows("select seed from runs where seed = :seed", seed=4) == []
    assert [row["name"] for row in store.rows("pragma table_info(latest)")] == ["hash", "attempt_id"]
    assert store.query("select seed s, hash from runs where seed = 4").columns == ["s", "hash"]


@pytest.mark.parametrize(
    ("sql", "complaint"),
    [
        ("delete from attempts", "a query only reads, and this one does more"),
        ("delete from attempts returning *", "a query only reads, and this one does more"),
        ("create table t (a)", "a query only reads"),
        ("pragma query_only = off", "only reads"),
        ("pragma wal_checkpoint", "only reads"),
        ("attach 'other.db' as other", "only reads"),
        ("vacuum into 'other.db'", "only reads|cannot VACUUM"),
        ("select 1; delete from attempts", "one statement at a time"),
        ("commit", "only reads"),
        ("select nope from runs", "SQL failed in .*no such column: nope; `isokl db tables` lists"),
        ("selec 1", "syntax error"),
        ("select 1 a, 2 b, 3 a", "several columns named a; tell them apart with AS"),
    ],
)
def test_a_query_reads_and_nothing_else(
    begin: Begin, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sql: str, complaint: str
) -> None:
    monkeypatch.chdir(tmp_path)
    begin()
    before = {file.name for file in tmp_path.iterdir()}
    with pytest.raises(StoreError, match=complaint):
        store.rows(sql)
    assert {file.name for file in tmp_path.iterdir()} == before
    assert store.rows("select count(*) n from attempts") == [{"n": 1}]
    begin().done()  # and the store can be written as before


def test_a_read_only_store_stores_nothing(begin: Begin, path: Path, config: Any) -> None:
    hash = begin().hash
    with Store(path, read_only=True) as reader:
        assert reader.find(hash[:8]) == 1
        with pytest.raises(StoreError, match="is read-only"):
            reader.begin(config(), prompts={}, provenance={})
        with pytest.raises(StoreError, match="only reads"):
            reader.rows("delete from attempts")
        with pytest.raises(StoreError, match="is read-only"):
            reader.attempt(1).done()


def test_urls_and_odd_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    odd = "50% of #2?mode=ro ü.db"
    for target, file in [("plain.db", "plain.db"), ("sqlite:///url.db", "url.db"), (odd, odd)]:
        with Store(target) as store:
            store.begin({}, prompts={}, provenance={}).done()
            assert store.path == tmp_path / file
        with Store(target, read_only=True) as store:
            assert store.rows("select count(*) n from latest") == [{"n": 1}]
        assert (tmp_path / file).is_file()
    with Store("sqlite://") as store:
        assert store.begin({}, prompts={}, provenance={}).id == 1
        assert store.path is None
