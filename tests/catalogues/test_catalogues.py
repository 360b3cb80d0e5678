"""The catalogues are what their sources say, sealed and dated; no item of the given one is lost."""

import importlib.util
import json
import re
from datetime import date, timedelta
from pathlib import Path

import msgspec
import pytest
import strategies
from hypothesis import given
from hypothesis import strategies as st

from dlaudit.audit.catalogues import FRESH, aged, doubled, opened, problem
from dlaudit.audit.declared import OTHERS, ROLES
from dlaudit.audit.findings import applies, fed_by
from dlaudit.audit.record import Catalogue, Requirement
from dlaudit.audit.registry import ImportFailed, Registry
from dlaudit.catalogues import load
from dlaudit.testing import NotConforming, conforms

ROOT = Path(__file__).parents[2]
NAMES = ("eu_ai_act", "nist_ai_rmf", "nist_ai_100_2", "iso_iec")
GIVEN = json.loads((ROOT / "docs/sources/eu_ai_act_given.json").read_text())["items"]
WHOLE_ACT = load.eu_ai_act()
ACT = {item.id: item for item in WHOLE_ACT}
ACT_CARD = WHOLE_ACT.card("eu_ai_act")


@pytest.fixture(scope="module")
def maker():
    spec = importlib.util.spec_from_file_location("maker", ROOT / "docs/make_catalogues.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", NAMES)
def test_the_shipped_file_is_what_the_script_makes_of_the_sources(name, maker):
    shipped = (ROOT / "dlaudit/catalogues" / f"{name}.json").read_text()
    assert shipped == maker.text_of(name), "run `python docs/make_catalogues.py`"
    assert shipped.isascii()


@pytest.mark.parametrize("name", NAMES)
def test_every_catalogue_keeps_to_the_contract(name):
    conforms("catalogue", name)


class TestTheAct:
    def test_no_given_item_is_lost_or_reworded(self):
        assert len(GIVEN) == 271
        for one in GIVEN:
            item = ACT[one["id"]]
            assert (item.cite, item.paraphrase, item.source) == (
                one["cite"], one["paraphrase"], one["source"],
            )  # fmt: skip
            assert list(item.kind) == one["kind"].split(",")

    def test_what_differs_from_the_given_one_is_what_the_sources_say(self):
        changed = {
            one["id"]: (one["applies_from"], ACT[one["id"]].applies_from)
            for one in GIVEN
            if ACT[one["id"]].applies_from != one["applies_from"]
        }
        assert set(changed.values()) == {("2026-08-02", "2026-08-02 (formal)")}
        assert {re.match(r"aia:(art\d+|anx-\w+)", one).group(1) for one in changed} == {
            "art43", "art47", "art48", "anx-v",
        }  # fmt: skip

    def test_the_gaps_that_its_description_lists_are_filled(self):
        """ai_act_catalogue.md, "Known gaps": a tombstone and its successor, and what was missing."""
        missing = {
            "aia:art10-5", "aia:art4a-1", "aia:anx-vii-4-3", "aia:anx-vii-4-4", "aia:anx-vii-4-5",
            "aia:art6-5", "aia:art27-5", "aia:art101", "aia:art111-2", "aia:art111-3",
            "aia:anx-viii-a", "aia:anx-viii-b", "aia:anx-viii-c",
        }  # fmt: skip
        assert set(ACT) - {one["id"] for one in GIVEN} == missing
        assert ACT["aia:art10-5"].replaced_by == "aia:art4a-1"
        assert ACT["aia:anx-xi-s2-1"].suites == ("ALL",)

    def test_every_item_says_how_it_was_read_and_how_sure_its_date_is(self):
        catalogue = load.eu_ai_act()
        for item in catalogue:
            assert item.source in catalogue.sources
            if not item.replaced_by:
                assert item.confidence in catalogue.confidence, item.id
            written = item.applies_from
            if "formal" in written or "contested" in written:
                assert item.confidence in {"unsettled", "contested"}, item.id

    def test_every_suite_and_addressee_is_one_that_is_known(self):
        single = {"ALL", "PROV", "diff", "watermark"}  # no check of this house feeds them
        for item in ACT.values():
            assert set(item.suites) <= set(load.eu_ai_act().feeds) | single, item.id
            known = {*ROLES, *OTHERS, "anyone", ""}
            assert set(item.addressee.split(",")) <= known, item.id

    def test_the_counts_by_letter_are_those_published_and_the_new_ones(self):
        given = [ACT[one["id"]] for one in GIVEN]
        assert sum("T" in item.kind for item in given) == 60
        assert sum(item.kind[0] == "T" for item in given) == 26
        new = [item for key, item in ACT.items() if key not in {one["id"] for one in GIVEN}]
        assert not any("T" in item.kind for item in new), "what is new needs no new test"

    def test_annex_iii_points_are_stated_by_the_plan_and_concern_themselves(self):
        points = {key: item for key, item in ACT.items() if key.startswith("aia:anx-iii-")}
        assert len(points) == 25
        assert points["aia:anx-iii-5-b"].concerns == ("5b",)
        assert points["aia:anx-iii-2"].concerns == ("2",)
        assert {item.fact for item in points.values()} == {"annex_iii"}

    def test_each_check_of_the_house_feeds_at_least_one_suite_of_the_catalogue(self):
        registry = Registry()
        feeds = load.eu_ai_act().feeds.values()
        for part in [*registry.parts("checks"), *registry.parts("attacks")]:
            assert any(fed_by(feed, part.name) for feed in feeds), part.name
        adversarial = load.eu_ai_act().feeds["ADV"]
        assert fed_by(adversarial, "attacks.pgd")
        assert not fed_by(adversarial, "attacks.corruptions")


def test_the_watch_list_holds_numbers_and_titles_and_maps_nothing():
    for item in load.iso_iec():
        assert item.cite.startswith("ISO/IEC ")
        assert item.title
        assert (item.kind, item.suites) == ((), ())


@pytest.fixture(scope="module")
def shipped():
    """Every catalogue that ships, as the registry opens it."""
    registry = Registry()
    return {name: opened(name, registry) for name in NAMES}


def test_ids_are_unique_across_all_that_ship(shipped):
    assert doubled(list(shipped.values())) == []
    assert doubled([load.iso_iec(), load.iso_iec()])[:1] == ["iso:tr-24029-1"]


class TestSeal:
    @given(data=st.data())
    def test_any_changed_text_of_the_file_is_refused(self, data):
        raw = (ROOT / "dlaudit/catalogues/nist_ai_100_2.json").read_bytes()
        places = [m.start() for m in re.finditer(rb"[a-zA-Z0-9]", raw)]
        at = data.draw(st.sampled_from(places))
        other = data.draw(st.sampled_from(b"abcxyz0189").filter(lambda one: one != raw[at]))
        with pytest.raises((ValueError, KeyError)):
            load.read(raw[:at] + bytes([other]) + raw[at + 1 :])

    def test_a_changed_paraphrase_is_named_with_both_digests(self):
        raw = (ROOT / "dlaudit/catalogues/iso_iec.json").read_bytes()
        with pytest.raises(ValueError, match="was changed since it was sealed: its digest is"):
            load.read(raw.replace(b"Guidance on risk", b"Guidance of risk"))

    @given(strategies.catalogues)
    def test_the_digest_is_that_of_the_content(self, catalogue):
        again = msgspec.json.decode(msgspec.json.encode(catalogue), type=Catalogue)
        assert again.sha256 == catalogue.sha256
        assert msgspec.structs.replace(catalogue, note=catalogue.note + "x").sha256 != again.sha256


@given(days=st.integers(-400, 4000))
def test_a_catalogue_warns_after_ninety_days_and_not_before(days):
    card = ACT_CARD
    warned = aged(card, card.dated + timedelta(days=days)).warning
    assert bool(warned) == (days > FRESH == 90)
    if warned:
        assert f"{card.dated}, {days} days before" in warned


def test_a_deleted_item_is_refused_with_its_successor():
    assert problem("aia:art10-5", ACT) == (
        "Article 10(5) was deleted. Its place was taken by aia:art4a-1."
    )
    assert "Did you mean aia:art9-8?" in problem("aia:art9_8", ACT)
    assert problem("aia:art15-1", ACT) == ""


def test_dates_of_every_catalogue_can_be_read(shipped):
    for catalogue in shipped.values():
        for item in catalogue:
            assert applies(item.applies_from, date(2026, 11, 28), annex_iii=None)


BROKEN = {
    "returned a tuple, expected a Catalogue": "return ()",
    "RuntimeError: no network": 'raise RuntimeError("no network")',
    "it has no items": 'return Catalogue(framework="f", dated=date(2026, 1, 1), items=())',
    "the id 'x' is not of the form": (
        'return Catalogue(framework="f", dated=date(2026, 1, 1), items=('
        'Requirement(id="x", framework="f", cite="c", paraphrase="p"),))'
    ),
    "the id 'a:1' is used twice": (
        'return Catalogue(framework="f", dated=date(2026, 1, 1), items=('
        'Requirement(id="a:1", framework="f", cite="c", paraphrase="p"),) * 2)'
    ),
    "a:1 lacks its citation": (
        'return Catalogue(framework="f", dated=date(2026, 1, 1), items=('
        'Requirement(id="a:1", framework="f", cite=""),))'
    ),
}


@pytest.mark.parametrize(("said", "body"), BROKEN.items())
def test_a_broken_catalogue_of_a_guest_is_told_why(said, body, tmp_path):
    plugin = tmp_path / "guest.py"
    plugin.write_text(
        "from datetime import date\nfrom dlaudit import Catalogue, Requirement\n\n"
        f'def rules() -> Catalogue:\n    """Rules."""\n    {body}\n'
    )
    with pytest.raises(NotConforming, match=re.escape(said)):
        conforms("catalogue", "guest.rules", plugins=[plugin])


def test_a_catalogue_that_crashes_is_an_import_failure_with_its_cause(tmp_path):
    plugin = tmp_path / "crash.py"
    plugin.write_text(
        'from dlaudit import Catalogue\n\ndef rules() -> Catalogue:\n    """R."""\n    return 1 / 0\n'
    )
    with pytest.raises(ImportFailed, match="ZeroDivisionError"):
        opened("crash.rules", Registry((plugin,)))


def test_requirements_of_older_records_lack_the_new_fields_and_are_read():
    old = {"id": "aia:x", "framework": "f", "cite": "c", "kind": ["T"]}
    assert msgspec.convert(old, Requirement).replaced_by == ""
