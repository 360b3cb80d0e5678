"""Evidence is named by its content, and a file is there whole or not at all."""

import hashlib
import io
import os
import stat

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlaudit.audit import evidence
from dlaudit.audit.evidence import (
    EXTENSIONS,
    EvidenceStore,
    digest,
    file_digest,
    fingerprint,
    subset_card,
    table_bytes,
    write_whole,
)
from dlaudit.audit.record import Card

HELLO = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"


class TestDigests:
    def test_the_digest_is_sha256_in_hexadecimal(self):
        assert digest(b"hello") == HELLO

    def test_a_file_has_the_digest_of_its_content(self, tmp_path):
        file = tmp_path / "large"
        content = b"hello" * 1_000_000
        file.write_bytes(content)
        assert file_digest(file) == digest(content)

    def test_a_fingerprint_by_hand(self):
        found = fingerprint([("weights", "b"), ("code", "a")])
        assert found == hashlib.sha256(b'[["code","a"],["weights","b"]]').hexdigest()

    @given(parts=st.lists(st.tuples(st.text(), st.text()), max_size=4), data=st.data())
    def test_the_order_of_files_changes_nothing(self, parts, data):
        assert fingerprint(parts) == fingerprint(iter(data.draw(st.permutations(parts))))

    @given(st.lists(st.tuples(st.text(), st.text()), min_size=1, max_size=3, unique=True))
    def test_another_role_or_content_is_another_fingerprint(self, parts):
        (role, content), *others = parts
        changed = {
            fingerprint(parts),
            fingerprint([(role + "x", content), *others]),
            fingerprint([(role, content + "x"), *others]),
            fingerprint([*parts, (role, content)]),
            fingerprint(others),
        }
        assert len(changed) == 5


class TestWriteWhole:
    def test_it_writes_and_replaces(self, tmp_path):
        file = tmp_path / "record.json"
        write_whole(file, b"first")
        write_whole(file, b"second")
        assert file.read_bytes() == b"second"
        assert list(tmp_path.iterdir()) == [file]

    def test_others_may_read_the_file(self, tmp_path):
        write_whole(tmp_path / "file", b"")
        assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o644

    @pytest.mark.parametrize("step", ["fsync", "chmod", "replace"])
    @pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
    def test_an_interruption_at_any_step_leaves_what_was_there(
        self, tmp_path, monkeypatch, step, error
    ):
        file = tmp_path / "record.json"
        file.write_bytes(b"before")

        def interrupted(*args):
            raise error

        monkeypatch.setattr(os, step, interrupted)
        with pytest.raises(type(error)):
            write_whole(file, b"after")
        assert file.read_bytes() == b"before"
        assert list(tmp_path.iterdir()) == [file]

    def test_the_content_is_on_the_disk_before_the_name_is(self, tmp_path, monkeypatch):
        steps = []
        for step in ("fsync", "replace"):
            real = getattr(os, step)
            monkeypatch.setattr(
                os, step, lambda *args, step=step, real=real: (steps.append(step), real(*args))
            )
        write_whole(tmp_path / "file", b"x")
        assert steps == ["fsync", "replace"]

    def test_a_missing_folder_is_an_error(self, tmp_path):
        with pytest.raises(FileNotFoundError):
            write_whole(tmp_path / "no" / "file", b"")


columns = st.dictionaries(
    st.text("abcxyz_", min_size=1, max_size=5),
    st.one_of(
        st.lists(st.integers(-(2**60), 2**60), max_size=5).map(lambda c: np.array(c, np.int64)),
        st.lists(st.floats(width=32), max_size=5).map(lambda c: np.array(c, np.float32)),
        st.lists(st.booleans(), max_size=5).map(lambda c: np.array(c, bool)),
        st.lists(st.text("aäb", max_size=3), max_size=5).map(lambda c: np.array(c, str)),
    ),
    max_size=3,
)


class TestTables:
    @given(columns=columns)
    def test_columns_come_back_as_they_were_and_the_same_bytes_each_time(self, columns):
        raw = table_bytes(columns)
        assert raw == table_bytes({name: column.copy() for name, column in columns.items()})
        with np.load(io.BytesIO(raw), allow_pickle=False) as stored:
            assert stored.files == list(columns)
            for name, column in columns.items():
                np.testing.assert_array_equal(stored[name], column)
                assert stored[name].dtype == column.dtype

    def test_lists_are_taken_for_arrays(self):
        assert table_bytes({"id": ["a", "b"]}) == table_bytes({"id": np.array(["a", "b"])})

    @pytest.mark.parametrize("column", [np.array(["a", None]), np.array([{}], dtype=object)])
    def test_objects_are_refused_because_they_would_be_pickled(self, column):
        message = "^evidence column 'group' holds objects; numbers, booleans or text are stored$"
        with pytest.raises(TypeError, match=message):
            table_bytes({"id": np.arange(2), "group": column})


class TestStore:
    def test_the_folder_is_made_at_first_use(self, tmp_path):
        store = EvidenceStore(tmp_path / "run")
        assert not (tmp_path / "run").exists()
        store.keep("note", b"x", media_type="text/plain")
        assert [file.name for file in store.folder.iterdir()] == [f"{digest(b'x')}.txt"]

    def test_the_artifact_says_where_and_what(self, tmp_path):
        found = EvidenceStore(tmp_path).keep(
            "note", b"hello", media_type="text/plain", caption="A note.", alt="The word hello"
        )
        assert found.path == f"evidence/{HELLO}.txt"
        assert (tmp_path / found.path).read_bytes() == b"hello"
        assert (found.name, found.media_type, found.sha256) == ("note", "text/plain", HELLO)
        assert (found.caption, found.alt) == ("A note.", "The word hello")

    @pytest.mark.parametrize(("media_type", "ending"), EXTENSIONS.items())
    def test_every_media_type_has_its_ending(self, tmp_path, media_type, ending):
        found = EvidenceStore(tmp_path).keep("x", b"x", media_type=media_type)
        assert found.path == f"evidence/{digest(b'x')}.{ending}"

    def test_an_unknown_media_type_is_refused_with_the_nearest(self, tmp_path):
        message = "evidence 'x': no evidence is of type 'image/pgn'. Did you mean image/png?"
        with pytest.raises(ValueError, match=message):
            EvidenceStore(tmp_path).keep("x", b"x", media_type="image/pgn")
        assert list(tmp_path.iterdir()) == []

    def test_the_same_content_is_written_once(self, tmp_path, monkeypatch):
        written = []
        monkeypatch.setattr(
            evidence, "write_whole", lambda path, raw: (written.append(path), path.write_bytes(raw))
        )
        store = EvidenceStore(tmp_path)
        first = store.keep("a", b"same", media_type="text/plain")
        second = store.keep("b", b"same", media_type="text/plain")
        store.keep("c", b"other", media_type="text/plain")
        assert first.path == second.path
        assert (first.name, second.name) == ("a", "b")
        assert len(written) == 2

    def test_a_crash_leaves_no_evidence_of_half_a_file(self, tmp_path, monkeypatch):
        def full(*args):
            raise OSError(28, "No space left on device")

        store = EvidenceStore(tmp_path)
        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", full)
            with pytest.raises(OSError, match="No space"):
                store.keep("a", b"x", media_type="text/plain")
        assert list(store.folder.iterdir()) == []
        assert (tmp_path / store.keep("a", b"x", media_type="text/plain").path).exists()

    def test_a_table_is_kept_as_npz(self, tmp_path):
        found = EvidenceStore(tmp_path).keep_table(
            "samples", {"id": np.array(["a"]), "margin": np.array([0.5])}, caption="Margins."
        )
        assert found.media_type == "application/vnd.numpy.npz"
        assert (found.name, found.caption, found.alt) == ("samples", "Margins.", "")
        assert found.path.endswith(f"{found.sha256}.npz")
        with np.load(tmp_path / found.path) as stored:
            assert stored["margin"].tolist() == [0.5]


class TestSubsetCard:
    card = Card(
        name="d", fingerprint="f", facts={"n": 9}, splits={"t": Card(name="", fingerprint="")}
    )

    def test_a_subset_is_other_data_and_says_so(self):
        found = subset_card(self.card, "test", 5, 7)
        assert found.fingerprint == fingerprint([("whole", "f"), ("subset", "test:5:7")])
        assert found.facts == {"n": 9, "subset": 5, "subset_seed": 7}
        assert (found.name, found.splits) == (self.card.name, self.card.splits)
        assert self.card.facts == {"n": 9}

    def test_another_split_size_or_seed_is_another_fingerprint(self):
        asked = [("test", 5, 7), ("train", 5, 7), ("test", 6, 7), ("test", 5, 8)]
        prints = {subset_card(self.card, *one).fingerprint for one in asked}
        assert len(prints | {"f"}) == 5
