import tomllib

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from planted_story import story

from dlaudit.reports.plan_file import plan_toml


def test_the_plan_of_a_record_is_written_as_a_plan_again():
    record = story()
    table = tomllib.loads(plan_toml(record.plan))
    assert table["name"] == "digits classifier 1.4"
    assert table["default_rules"] is False
    assert table["model"] == {"use": "torch", "args": {"file": "net.py:build", "bounds": [0, 1]}}
    assert table["data"] == {"use": "npz", "args": {"path": "holdout.npz"}}
    assert list(table["checks"]) == [run.id for run in record.runs]
    assert table["checks"]["attacks.minimal"]["use"] == "foolbox:L2CarliniWagnerAttack"
    assert len(table["rules"]) == len(record.rules)
    assert table["rules"][0]["at_most"] == 0.05
    assert "origin" not in table["rules"][0]
    assert table["waivers"]["attacks.patch"]["until"].isoformat() == "2027-01-31"
    assert table["context"]["annex_iii"] == "5b"


def test_every_part_of_a_plan_comes_through():
    plan = {
        "name": "a", "seed": 3, "block": 64, "keep_samples": 2, "max_samples": None,
        "catalogues": ["eu_ai_act"],
        "model": {"use": "m", "args": {}}, "models": {"other one": {"use": "m", "args": {"a": 1.5}}},
        "data": {"test": {"use": "d", "args": {}}, "train": {"use": "d", "args": {"p": 'x\x7f"\\\n'}}},
        "train": {"factory": "t.py:f"},
        "runs": [{"id": "a.b", "check": "a.b", "params": {"deep": {"k y": [1, 2.5, "x"]}, "none": None}}],
        "rules": [{"id": "r", "run": "a.b", "measurement": "m", "at_least": 0.0, "at_most": None,
                   "conditions": {"targeted": False}, "slice": {}, "rationale": ""}],
        "declarations": [{"requirement": "q", "who": "w", "role": "r", "statement": "s",
                          "date": "2026-01-02"}],
    }  # fmt: skip
    table = tomllib.loads(plan_toml(plan))
    assert table["models"]["other one"]["args"]["a"] == 1.5
    assert table["data"]["train"]["args"]["p"] == 'x\x7f"\\\n'
    assert table["train"] == {"factory": "t.py:f"}
    assert "none" not in table["checks"]["a.b"]
    assert table["rules"] == [
        {
            "id": "r",
            "run": "a.b",
            "measurement": "m",
            "at_least": 0.0,
            "conditions": {"targeted": False},
        }
    ]
    assert table["declarations"][0]["date"].year == 2026
    assert (table["block"], table["keep_samples"]) == (64, 2)
    assert "max_samples" not in table


words = st.text(st.characters(exclude_categories=("Cs",)))
values = st.recursive(
    st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
    | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@given(st.dictionaries(words, values, max_size=4))
def test_any_parameters_survive_being_written(params):
    run = {"id": "some.run", "check": "c", "params": {f"_{k}": v for k, v in params.items()}}
    table = tomllib.loads(plan_toml({"runs": [run]}))
    stored = table["checks"]["some.run"]
    assert msgspec.json.encode(stored, order="sorted") == msgspec.json.encode(
        {"use": "c", **run["params"]}, order="sorted"
    )
