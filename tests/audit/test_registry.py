"""Parts are found by name, nothing is imported before it is asked for, and no part hides another."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from dlaudit.audit.parts import Check, Suite
from dlaudit.audit.registry import GROUPS, ImportFailed, Part, Registry, import_file, snake_case
from dlaudit.errors import PlanError, UnknownName

PLUGIN = '''
from dlaudit import Attack, AuditRecord, Check, Dataset, Model, Suite
from dlaudit.attacks.base import Attack as Base

class UniformNoise(Attack):
    """Noise."""

class Counting(Check):
    """Count."""

class Net(Model):
    """A model."""

class Rows(Dataset):
    """Data."""

class _Hidden(Check):
    """Nobody's."""

MINE = Suite(name="mine", title="Mine", runs={})

def load_net(path: str) -> Model: ...
def load_rows(path: str) -> Dataset: ...
def as_text(record: AuditRecord) -> str: ...
def no_renderer(record: str) -> str: ...
def no_part(record): ...
def misspelt(record: "AuditRocerd") -> str: ...
helper = 3
'''


@pytest.fixture
def noise(tmp_path: Path) -> Path:
    (tmp_path / "noise.py").write_text(PLUGIN)
    return tmp_path / "noise.py"


def test_a_plug_in_file_gives_each_part_that_it_defines(noise: Path) -> None:
    registry = Registry((noise,))
    found = {
        (group, part.name)
        for group in GROUPS
        for part in registry.parts(group)
        if part.origin == "noise.py"
    }
    assert found == {
        ("attacks", "noise.uniform_noise"),
        ("checks", "noise.counting"),
        ("models", "noise.net"),
        ("models", "noise.load_net"),
        ("datasets", "noise.rows"),
        ("datasets", "noise.load_rows"),
        ("suites", "noise.mine"),
        ("renderers", "noise.as_text"),
    }
    assert registry.check("noise.counting").line == "Count."
    assert registry.find("suites", "noise.mine").line == "Mine"
    assert set(registry.plugins) == {"noise.py"}


def test_built_in_parts_come_through_the_front_door() -> None:
    registry = Registry()
    assert {"overfitting", "attacks", "backdoors", "fairness", "explain"} <= {
        part.name for part in registry.parts("suites")
    }
    for group in ("models", "datasets", "checks", "suites", "renderers", "executors", "catalogues"):
        assert registry.parts(group)
        assert {part.origin for part in registry.parts(group)} == {"dlaudit"}


def test_every_built_in_part_can_be_imported_and_describes_itself() -> None:
    registry = Registry()
    for group in GROUPS:
        for part in registry.parts(group):
            assert part.line, part
            assert not part.line.startswith("("), part.line
    for part in registry.parts("suites"):
        assert isinstance(part.get(), Suite)
        assert part.get().name == part.name
    for part in registry.parts("checks"):
        assert issubclass(part.get(), Check)


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    registry = Registry()
    with pytest.raises(
        UnknownName, match=r"no check is called 'attacks.pdg'. Did you mean attacks.pgd\?"
    ):
        registry.check("attacks.pdg")
    with pytest.raises(UnknownName, match=r"no renderer is called 'zzz'. There are: annex-iv, "):
        registry.find("renderers", "zzz")
    with pytest.raises(
        UnknownName, match=r"no explainer is called 'salience'. Did you mean saliency"
    ):
        registry.find("explainers", "salience")


def test_a_member_of_a_family_is_found_through_it() -> None:
    class Family:
        """Many."""

        @staticmethod
        def member(name: str) -> str:
            return f"the member {name}"

    registry = Registry()
    registry._add(Part("attacks", "zoo", "this test", lambda: Family))
    assert registry.check("zoo:lion").get() == "the member lion"
    assert registry.check("zoo").get() is Family
    with pytest.raises(UnknownName):
        registry.check("zoos:lion")


@pytest.mark.parametrize("body", ["raise OSError('planted')", "import sys\nsys.exit(0)", "def f(:"])
def test_a_file_that_cannot_be_imported_is_refused_and_forgotten(body: str, tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text(body)
    before = set(sys.modules)
    for _ in range(2):
        with pytest.raises(PlanError, match=r"bad.py: importing it raised"):
            import_file(tmp_path / "bad.py")
    assert not {name for name in set(sys.modules) - before if "bad" in name}


@pytest.mark.parametrize("name", ["missing.py", "."])
def test_what_is_no_file_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="expected a Python file, found"):
        import_file(tmp_path / name)


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "net.txt").touch()
    with pytest.raises(PlanError, match=r"expected a Python file \(.py\)"):
        import_file(tmp_path / "net.txt")


def test_a_file_may_import_what_lies_beside_it_and_shadows_nothing(tmp_path: Path) -> None:
    (tmp_path / "layers_beside.py").write_text("WIDTH = 7")
    (tmp_path / "msgspec.py").write_text("raise RuntimeError('in the way')")
    (tmp_path / "net.py").write_text("import msgspec\nfrom layers_beside import WIDTH")
    assert import_file(tmp_path / "net.py").WIDTH == 7


def test_a_file_is_imported_once_and_again_when_it_changed(tmp_path: Path) -> None:
    file = tmp_path / "net.py"
    file.write_text("VALUE = 1")
    assert import_file(file) is import_file(file)
    file.write_text("VALUE = 2")
    assert import_file(file).VALUE == 2


def test_a_file_without_a_part_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.py").write_text("x = 3")
    with pytest.raises(PlanError, match="defines no part"):
        Registry((tmp_path / "empty.py",))


def test_no_part_takes_the_place_of_another(tmp_path: Path) -> None:
    """Not of the same kind, nor a check that of an attack, nor one file that of its namesake."""
    (tmp_path / "attacks.py").write_text("from dlaudit import Attack\nclass PGD(Attack): ...\n")
    with pytest.raises(PlanError, match=r"two parts are called 'attacks.pgd': one of dlaudit"):
        Registry((tmp_path / "attacks.py",))
    (tmp_path / "attacks.py").write_text("from dlaudit import Check\nclass PGD(Check): ...\n")
    with pytest.raises(PlanError, match=r"two parts are called 'attacks.pgd': one of dlaudit"):
        Registry((tmp_path / "attacks.py",))
    (tmp_path / "other").mkdir()
    for folder in (tmp_path, tmp_path / "other"):
        (folder / "mine.py").write_text(
            f"from dlaudit import Check\nclass C(Check): {len(str(folder))}\n"
        )
    with pytest.raises(PlanError, match=r"two plug-in files are called mine.py"):
        Registry((tmp_path / "mine.py", tmp_path / "other" / "mine.py"))
    assert Registry((tmp_path / "mine.py", tmp_path / "mine.py")).check("mine.c")


@pytest.mark.parametrize("error", [RuntimeError("planted"), SystemExit(0), ImportError("planted")])
def test_a_part_that_cannot_be_imported_says_so_in_its_line(error: BaseException) -> None:
    def load() -> object:
        raise error

    part = Part("checks", "x.y", "x 1.0", load)
    with pytest.raises(ImportFailed, match=r"x.y \(x 1.0\) cannot be imported"):
        part.get()
    assert part.line.startswith("(x.y (x 1.0) cannot be imported")


@pytest.mark.parametrize(
    ("name", "snake"),
    [("UniformNoise", "uniform_noise"), ("FGSM", "fgsm"), ("FGSMAttack", "fgsm_attack"),
     ("L2Ball", "l2_ball"), ("plain", "plain"), ("MINE", "mine")],
)  # fmt: skip
def test_a_class_is_called_in_snake_case(name: str, snake: str) -> None:
    assert snake_case(name) == snake
