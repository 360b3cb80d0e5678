"""The files of a run: claimed by one, continued after any cut, and every altered byte is named."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import jsonschema
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlaudit.audit.engine import Events, audit
from dlaudit.audit.executor import InlineExecutor, lost
from dlaudit.audit.perform import Done, Job
from dlaudit.audit.plan import RunSpec, Source
from dlaudit.audit.record import AuditRecord, json_schema
from dlaudit.audit.run_folder import (
    JOURNAL,
    MANIFEST,
    RECORD,
    Journal,
    RunFolder,
    Seal,
    alterations,
    digests,
    folder_of,
    named_evidence,
    stored,
)
from dlaudit.errors import RunFolderError

SEAL = Seal(plan_sha256="a" * 64, subject={"model": "m"}, started="2026-01-01T00:00:00Z", tool="0")


def toy_source(plug: Path, **table: object) -> Source:
    return Source(
        root="/", plugins=(str(plug),),
        table={
            "suites": ["toy.ruled"], "model": {"use": "toy.model"},
            "data": {"use": "toy.data", "args": {"n": 40}}, **table,
        },
    )  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, plug: Path) -> Path:
    """A finished run of the toy suite."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    _, run = audit(toy_source(plug), InlineExecutor(), folder)
    run.write("summary.md", "a report\n")
    run.seal_files()
    return folder


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy of it, to be spoilt."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


def done(name: str) -> Done:
    job = Job(run=RunSpec(id=name, check=name), plan_seed=0, block=1, keep_samples=0, folder="/")
    return lost(job, "Timeout", "planted")


# -- before anything is written ----------------------------------------------------------------------


def test_a_new_folder_and_an_empty_one_will_do(tmp_path: Path) -> None:
    for resume in (False, True):
        RunFolder(tmp_path).check(resume=resume)
        RunFolder(tmp_path / "missing").check(resume=resume)
    assert not (tmp_path / "missing").exists()


def test_a_folder_that_holds_anything_is_refused(tmp_path: Path) -> None:
    (tmp_path / "note.txt").touch()
    with pytest.raises(
        RunFolderError, match=r"expected a new or an empty folder, it holds files\.$"
    ):
        RunFolder(tmp_path).check(resume=False)
    with pytest.raises(RunFolderError, match=r"nothing to resume, there is no journal\.jsonl"):
        RunFolder(tmp_path).check(resume=True)


def test_a_finished_run_is_refused_unless_it_is_resumed(finished: Path) -> None:
    with pytest.raises(RunFolderError, match="Add --resume to go on with it"):
        RunFolder(finished).check(resume=False)
    RunFolder(finished).check(resume=True)


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunFolderError, match="expected a folder, found a file"):
        RunFolder(tmp_path / "file").check(resume=False)
    with (
        pytest.raises(RunFolderError, match="expected a folder to write to"),
        RunFolder(tmp_path / "file" / "run").claim(SEAL, resume=False),
    ):
        pass


# -- the journal -------------------------------------------------------------------------------------


def test_the_plan_is_sealed_before_the_first_job(tmp_path: Path, plug: Path) -> None:
    seen: list[int] = []

    def started(job: Job) -> None:
        journal = (tmp_path / "run" / JOURNAL).read_bytes()
        seen.append(len(journal.splitlines()))
        assert msgspec.json.decode(journal.splitlines()[0], type=Seal).plan_sha256

    record, _ = audit(
        toy_source(plug), InlineExecutor(), tmp_path / "run", events=Events(started=started)
    )
    assert seen == [1]
    journal = (tmp_path / "run" / JOURNAL).read_bytes().splitlines()
    assert msgspec.json.decode(journal[0], type=Seal).plan_sha256 == record.plan_sha256


@pytest.mark.parametrize("resume", [False, True])
def test_two_at_a_time_cannot_write_one_run(tmp_path: Path, *, resume: bool) -> None:
    with (
        RunFolder(tmp_path).claim(SEAL, resume=False),
        pytest.raises(RunFolderError, match="another dlaudit is writing this run"),
        RunFolder(tmp_path).claim(SEAL, resume=resume),
    ):
        pass


def test_one_that_comes_late_does_not_write_into_a_finished_run(tmp_path: Path) -> None:
    """Both found the folder empty; the other was done before this one wrote its first line."""
    with RunFolder(tmp_path).claim(SEAL, resume=False):
        pass
    before = (tmp_path / JOURNAL).read_bytes()
    with (
        pytest.raises(RunFolderError, match="another dlaudit wrote a run here"),
        RunFolder(tmp_path).claim(SEAL, resume=False),
    ):
        pass
    assert (tmp_path / JOURNAL).read_bytes() == before


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    with RunFolder(tmp_path).claim(SEAL, resume=False) as begun:
        for name in ("one", "two", "three"):
            begun.add(done(name))
    return tmp_path / JOURNAL


def test_a_journal_cut_anywhere_keeps_every_whole_line(journal: Path) -> None:
    whole = journal.read_bytes()
    ends = [i + 1 for i, byte in enumerate(whole) if byte == ord("\n")]
    cuts = {*range(0, len(whole), 17), *(end + near for end in (0, *ends) for near in (-1, 0, 1))}
    for cut in sorted(cut for cut in cuts if 0 <= cut <= len(whole)):
        journal.write_bytes(whole[:cut])
        kept = max((end for end in ends if end <= cut), default=0)
        with RunFolder(journal.parent).claim(SEAL, resume=True) as resumed:
            assert resumed.seal == SEAL
            assert (
                list(resumed.done)
                == ["one", "two", "three"][: max(0, ends.index(kept)) if kept else 0]
            )
        # Whatever was cut off in the middle of a line is gone; the seal is there again.
        assert journal.read_bytes() == (whole[:kept] if kept else whole[: ends[0]])


def test_what_was_half_written_when_the_run_was_cut_is_cleared(journal: Path) -> None:
    (journal.parent / "evidence").mkdir()
    (journal.parent / "evidence" / ".writing-abc").touch()
    (journal.parent / ".writing-def").touch()
    with RunFolder(journal.parent).claim(SEAL, resume=True):
        pass
    assert digests(journal.parent) == {}


def test_another_plan_does_not_go_on_with_a_run(journal: Path) -> None:
    other = msgspec.structs.replace(SEAL, plan_sha256="b" * 64)
    with (
        pytest.raises(RunFolderError, match=r"criteria are fixed before a run\. Use another --out"),
        RunFolder(journal.parent).claim(other, resume=True),
    ):
        pass


def test_another_model_does_not_go_on_with_a_run(journal: Path) -> None:
    other = msgspec.structs.replace(SEAL, subject={"model": "other"})
    with (
        pytest.raises(RunFolderError, match="model changed since the run began"),
        RunFolder(journal.parent).claim(other, resume=True),
    ):
        pass


@pytest.mark.parametrize("content", [b"{}\n", b"\xff\n", b"\n", b'{"run": \n'])
@pytest.mark.parametrize("line", [0, 1, 2])
def test_a_journal_that_was_spoilt_is_refused(journal: Path, line: int, content: bytes) -> None:
    lines = journal.read_bytes().splitlines(keepends=True)
    lines[line] = content
    journal.write_bytes(b"".join(lines))
    with pytest.raises(RunFolderError, match="cannot be read as a journal"):
        Journal(journal).take_up(SEAL)


# -- what is stored ----------------------------------------------------------------------------------


def test_a_run_is_named_by_its_folder_or_its_record(finished: Path) -> None:
    assert folder_of(finished) == folder_of(finished / RECORD) == finished
    assert stored(finished) == stored(finished / RECORD)


def test_what_is_no_run_is_told(tmp_path: Path, journal: Path) -> None:
    with pytest.raises(RunFolderError, match="there is no such folder"):
        stored(tmp_path / "missing")
    with pytest.raises(RunFolderError, match=r"no record\.json lies there\. The run was cut off"):
        stored(journal.parent)


@pytest.mark.parametrize("content", [b"", b"{", b"{}", b"[]", b'{"schema": 3}', b"\xff"])
def test_a_record_that_cannot_be_read_is_told(run: Path, content: bytes) -> None:
    (run / RECORD).write_bytes(content)
    with pytest.raises(RunFolderError, match="cannot be read as a record"):
        stored(run)
    assert f"{RECORD}: was altered" in alterations(run)


def test_a_stored_record_keeps_to_the_published_schema(finished: Path) -> None:
    document = msgspec.json.decode((finished / RECORD).read_bytes())
    jsonschema.validate(document, json_schema())
    assert msgspec.json.decode((finished / RECORD).read_bytes(), type=AuditRecord) == stored(
        finished
    )


# -- verify ------------------------------------------------------------------------------------------


def test_a_run_that_nobody_touched_is_intact(finished: Path) -> None:
    assert alterations(finished) == []
    promised = msgspec.json.decode((finished / MANIFEST).read_bytes())
    files = {
        file.relative_to(finished).as_posix() for file in finished.rglob("*") if file.is_file()
    }
    assert set(promised) == files - {MANIFEST, JOURNAL}
    assert not any(".work" in name for name in files)


@pytest.fixture(scope="module")
def spoilt(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A copy whose files are altered and put right again, one at a time."""
    copy = Path(shutil.copytree(finished, tmp_path_factory.mktemp("spoilt") / "run"))
    yield copy
    assert alterations(copy) == []


@given(data=st.data())
def test_any_altered_byte_of_any_file_is_named(spoilt: Path, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted([*digests(spoilt), MANIFEST])))
    file = spoilt / name
    whole = file.read_bytes()
    position = data.draw(st.integers(0, len(whole) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda one: one != whole[position]))
    file.write_bytes(whole[:position] + bytes([byte]) + whole[position + 1 :])
    try:
        problems = alterations(spoilt)
    finally:
        file.write_bytes(whole)
    assert problems
    assert name == MANIFEST or f"{name}: was altered" in problems


@given(data=st.data())
def test_altered_evidence_is_named_by_the_record_even_if_the_manifest_was_altered_to_match(
    spoilt: Path, data: st.DataObject
) -> None:
    """The record names its evidence by digest; what ties the record itself is a signature."""
    name = data.draw(st.sampled_from(sorted(named_evidence(stored(spoilt)))))
    file, manifest = spoilt / name, spoilt / MANIFEST
    whole, promised = file.read_bytes(), manifest.read_bytes()
    position = data.draw(st.integers(0, len(whole) - 1))
    file.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
    RunFolder(spoilt).seal_files()
    try:
        problems = alterations(spoilt)
    finally:
        file.write_bytes(whole)
        manifest.write_bytes(promised)
    assert [problem for problem in problems if problem.startswith(f"{name}: the record names")]


@given(data=st.data())
def test_any_file_that_is_cut_off_missing_or_added_is_named(
    spoilt: Path, data: st.DataObject
) -> None:
    name = data.draw(st.sampled_from(sorted(digests(spoilt))))
    file = spoilt / name
    whole = file.read_bytes()
    try:
        file.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
        assert f"{name}: was altered" in alterations(spoilt)
        if name != RECORD:
            file.unlink()
            assert f"{name}: is missing" in alterations(spoilt)
        added = spoilt / data.draw(st.sampled_from(["note.txt", "evidence/note.txt", "a.sig.txt"]))
        added.touch()
        try:
            assert any("is not in the manifest" in problem for problem in alterations(spoilt))
        finally:
            added.unlink()
    finally:
        file.write_bytes(whole)


def test_a_manifest_that_is_missing_or_no_manifest_is_named(run: Path) -> None:
    (run / MANIFEST).write_bytes(b"[]")
    assert [problem.partition(":")[0] for problem in alterations(run)] == [MANIFEST]
    (run / MANIFEST).unlink()
    assert alterations(run) == [f"{MANIFEST}: is missing"]


def test_evidence_that_is_swapped_together_with_its_manifest_is_named(run: Path) -> None:
    """The record names evidence by its digest: whoever rewrites the manifest must rewrite it too."""
    name = next(iter(named_evidence(stored(run))))
    (run / name).write_bytes(b"other")
    RunFolder(run).seal_files()
    assert [problem.partition(":")[0] for problem in alterations(run)] == [name]


def test_a_signature_may_lie_beside_what_it_signs(run: Path) -> None:
    (run / "manifest.json.sig").touch()
    assert alterations(run) == []
