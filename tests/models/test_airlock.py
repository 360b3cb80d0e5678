"""The airlock tells data from code by looking: nothing that it looks at is run."""

from __future__ import annotations

import collections
import contextlib
import hashlib
import io
import json
import os
import pickle
import pickletools
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dlaudit.errors import LoadError, UntrustedModel
from dlaudit.models import airlock, torch_export, torch_files, torchscript
from dlaudit.models.export_reading import _harmless, arithmetic
from dlaudit.models.pickle_reading import imports

WEIGHTS = {"accepts": torch_files.WEIGHTS, "expected": "weights"}


class Calls:
    """Pickles into a call of a function."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def touch(path: Path) -> Calls:
    return Calls(os.system, f"touch {path}")


def torch_archive(path: Path, pickled: bytes, **entries: bytes) -> Path:
    """A zip as torch.save writes it, with a pickle of one's own."""
    with zipfile.ZipFile(path, "w") as zipped:
        zipped.writestr("archive/data.pkl", pickled)
        zipped.writestr("archive/version", b"3\n")
        for name, content in entries.items():
            zipped.writestr(f"archive/{name}", content)
    return path


def by_stack(module: str, name: str, argument: str) -> bytes:
    """A pickle that takes the names of what it calls from the memo, through STACK_GLOBAL."""
    text = [b"\x80\x04", b"\x8c" + bytes([len(module)]) + module.encode(), b"\x94", b"0"]
    text += [
        b"\x8c" + bytes([len(name)]) + name.encode(),
        b"\x94",
        b"0",
        b"h\x00",
        b"h\x01",
        b"\x93",
    ]
    text += [b"\x8c" + bytes([len(argument)]) + argument.encode(), b"\x85", b"R", b"."]
    return b"".join(text)


HOSTILE = {
    "reduce": lambda c: pickle.dumps(touch(c)),
    "protocol 0": lambda c: pickle.dumps(touch(c), protocol=0),
    "protocol 2": lambda c: pickle.dumps(touch(c), protocol=2),
    "inside a state dict": lambda c: pickle.dumps(collections.OrderedDict(a=touch(c))),
    "eval": lambda c: pickle.dumps(Calls(eval, f"open({str(c)!r}, 'w')")),
    "getattr chain": lambda c: pickle.dumps(Calls(getattr, Calls(__import__, "os"), "system")),
    "names from the memo": lambda c: by_stack("posix", "system", f"touch {c}"),
    "dotted name": lambda c: by_stack("torch", "os.system", f"touch {c}"),
    "INST": lambda c: f"(S'touch {c}'\niposix\nsystem\n.".encode(),
    "OBJ": lambda c: f"(cposix\nsystem\nS'touch {c}'\no.".encode(),
    "loader within": lambda c: pickle.dumps(Calls(pickle.loads, pickle.dumps(touch(c)))),
    "torch loader within": lambda c: pickle.dumps(Calls(torch.storage._load_from_bytes, b"x")),
    "code object": lambda c: pickle.dumps(Calls(exec, f"open({str(c)!r}, 'w')")),
    "extension": lambda c: b"\x80\x02\x82\x01.",
    "names that it computes": lambda c: b"\x80\x04\x8c\x05posix\x8c\x06system\x86Q\x8c\x01x\x93.",
}


@pytest.mark.parametrize("how", HOSTILE)
@pytest.mark.parametrize("wrapped", ["archive", "old form", "bare"])
def test_a_pickle_that_would_run_code_is_refused_by_name_and_not_run(
    tmp_path, canary, how, wrapped
):
    pickled = HOSTILE[how](canary)
    path = tmp_path / "weights.pt"
    if wrapped == "archive":
        torch_archive(path, pickled)
    elif wrapped == "bare":
        path.write_bytes(pickled)
    else:
        head = pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2) + pickle.dumps(1001, protocol=2)
        path.write_bytes(
            head + pickle.dumps({}, protocol=2) + pickled + pickle.dumps([], protocol=2)
        )
    with pytest.raises(LoadError) as refused:
        airlock.admit(path, **WEIGHTS)
    if wrapped != "bare" or airlock.kind_of(path) == "pickle":
        assert isinstance(refused.value, UntrustedModel)
        assert "weights.pt" in str(refused.value)
        assert "opcode" in str(refused.value)
        assert hashlib.sha256(path.read_bytes()).hexdigest() in str(refused.value)
    assert not canary.exists()


def test_the_planted_pickles_do_run_when_they_are_loaded(tmp_path, canary):
    """The corpus is not harmless by mistake."""
    torch_archive(tmp_path / "w.pt", pickle.dumps(touch(canary)))
    with contextlib.suppress(Exception):  # whatever torch says afterwards
        torch.load(tmp_path / "w.pt", weights_only=False)
    assert canary.exists()


def test_the_refusal_names_global_and_opcode(tmp_path, canary):
    path = torch_archive(tmp_path / "w.pt", pickle.dumps(touch(canary)))
    with pytest.raises(UntrustedModel, match=r"posix\.system \(opcode STACK_GLOBAL at byte \d+\)"):
        airlock.admit(path, **WEIGHTS)


def test_a_digest_in_allow_lets_this_very_file_pass_and_says_so(tmp_path, saved):
    path = tmp_path / "whole.pt"
    torch.save(saved.net, path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    with pytest.raises(UntrustedModel, match="Net"):
        torch_files.load(root=tmp_path, file=str(saved.root / "net.py:build"), weights="whole.pt")
    model = torch_files.load(
        root=tmp_path,
        file=str(saved.root / "net.py:build"),
        weights="whole.pt",
        allow=[digest.upper()],
    )
    np.testing.assert_allclose(model.logits(saved.x).numpy(), saved.logits, atol=1e-5)
    assert "allowed by its sha256" in model.card.facts["airlock"]["weights"]
    assert "Net" in model.card.facts["airlock"]["weights"]
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(LoadError):
        torch_files.load(
            root=tmp_path, file=str(saved.root / "net.py:build"), weights="whole.pt", allow=[digest]
        )


def crooked(path: Path, how: str) -> Path:
    """An archive with something that honest writers never write."""
    good = pickle.dumps(collections.OrderedDict(), protocol=2)
    torch_archive(path, good)
    with zipfile.ZipFile(path, "a") as zipped:
        if how == "leaves its folder":
            zipped.writestr("archive/../../evil", b"x")
        elif how == "absolute":
            zipped.writestr("/etc/evil", b"x")
        elif how == "link":
            entry = zipfile.ZipInfo("archive/link")
            entry.external_attr = 0o120777 << 16
            zipped.writestr(entry, "/etc/passwd")
        elif how == "archive within":
            inner = io.BytesIO()
            with zipfile.ZipFile(inner, "w") as nested:
                nested.writestr("a", b"x")
            zipped.writestr("archive/data/0", inner.getvalue())
        elif how == "bomb":
            zipped.writestr("archive/data/0", b"\0" * (1 << 20), zipfile.ZIP_DEFLATED)
        elif how == "comment":
            zipped.comment = b"#!/bin/sh"
        elif how == "method":
            zipped.writestr("archive/data/0", b"x" * 100, zipfile.ZIP_BZIP2)
    if how == "in front":
        other = io.BytesIO()
        with zipfile.ZipFile(other, "w") as zipped:
            zipped.writestr("archive/data.pkl", good)
        path.write_bytes(other.getvalue() + path.read_bytes())
    return path


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("leaves its folder", "leaves its folder"), ("absolute", "leaves its folder"),
        ("link", "holds a link"), ("archive within", "an archive within the archive"),
        ("comment", "behind the archive"), ("in front", "in front of the archive"),
        ("method", "unusual method"),
    ],
)  # fmt: skip
def test_a_crooked_archive_is_refused(tmp_path, how, said):
    with pytest.raises(UntrustedModel, match=said):
        airlock.admit(crooked(tmp_path / "w.pt", how), **WEIGHTS)


def test_an_archive_that_unpacks_to_far_more_than_itself_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("dlaudit.models.zip_reading.SMALL", 1 << 18)
    with pytest.raises(UntrustedModel, match="zip bomb"):
        airlock.admit(crooked(tmp_path / "w.pt", "bomb"), **WEIGHTS)


def test_two_entries_of_one_name_and_entries_that_overlap_are_refused(tmp_path):
    path = tmp_path / "w.pt"
    torch_archive(path, pickle.dumps({}, protocol=2))
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(path, "a") as zipped:
        zipped.writestr("archive/data.pkl", pickle.dumps({}, protocol=2))
    with pytest.raises(UntrustedModel, match="two entries"):
        airlock.admit(path, **WEIGHTS)
    content = bytearray(torch_archive(path, pickle.dumps({"a": 1}, protocol=2)).read_bytes())
    directory = content.index(b"PK\x01\x02")
    second = content.index(b"PK\x01\x02", directory + 4)
    content[second + 42 : second + 46] = struct.pack(
        "<I", 4
    )  # the second entry starts in the first
    path.write_bytes(content)
    with pytest.raises(UntrustedModel, match="overlap"):
        airlock.admit(path, **WEIGHTS)


HONEST = {
    "float32": lambda: torch.zeros(3),
    "bfloat16": lambda: torch.zeros(3, dtype=torch.bfloat16),
    "int64": lambda: torch.arange(3),
    "bool": lambda: torch.ones(2, dtype=torch.bool),
    "parameter": lambda: torch.nn.Parameter(torch.zeros(2)),
    "view": lambda: torch.zeros(4, 4).t()[1:],
    "empty": lambda: torch.zeros(0),
    "complex": lambda: torch.zeros(2, dtype=torch.complex64),
    "sparse": lambda: torch.eye(3).to_sparse(),
}


@pytest.mark.parametrize("what", HONEST)
@pytest.mark.parametrize("new", [True, False])
def test_honest_weights_pass(tmp_path, what, new):
    torch.save({"a": HONEST[what]()}, tmp_path / "w.pt", _use_new_zipfile_serialization=new)
    reading = airlock.admit(tmp_path / "w.pt", **WEIGHTS)
    assert reading.objections == ()
    assert torch.load(tmp_path / "w.pt", weights_only=True).keys() == {"a"}


@settings(max_examples=150)
@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False)
        | st.text()
        | st.binary(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
        max_leaves=20,
    ),
    st.integers(0, 5),
)
def test_a_pickle_of_plain_data_imports_nothing(value, protocol):
    """Whatever the protocol: but for bytes, which old protocols can only write as a call."""
    pickled = pickle.dumps(value, protocol=protocol)
    found = {one.name for one in imports(io.BytesIO(pickled))}
    assert found <= {"_codecs.encode", "__builtin__.bytes"}


@settings(max_examples=150)
@given(st.binary(max_size=60), st.integers(0, 200))
def test_whatever_a_pickle_is_turned_into_it_is_read_or_refused(noise, cut):
    """Mutations end in a reading or in a LoadError: never in another exception."""
    pickled = pickle.dumps(Calls(print, {"a": ["b", 1]}))
    mutated = pickled[:cut] + noise + pickled[cut + len(noise) :]
    try:
        list(imports(io.BytesIO(mutated)))
    except ValueError:
        return


def test_pickletools_and_the_airlock_agree_on_what_a_pickle_imports(saved):
    """An independent reading: the arguments of every GLOBAL, by pickletools alone."""
    pickled = pickle.dumps(collections.OrderedDict(a=collections.Counter()), protocol=2)
    expected = [
        argument.replace(" ", ".")
        for opcode, argument, _ in pickletools.genops(pickled)
        if opcode.name == "GLOBAL"
    ]
    assert [one.name for one in imports(io.BytesIO(pickled))] == expected


KINDS = {
    "safetensors": ("weights.safetensors", "safetensors"),
    "state dict": ("weights.pt", "torch weights"),
    "old state dict": ("old.pt", "torch weights of the old form"),
    "TorchScript": ("script.pt", "TorchScript"),
    "trace": ("trace.pt", "TorchScript"),
    "torch.export": ("free.pt2", "torch.export archive"),
    "code": ("net.py", "unknown"),
}


@pytest.mark.parametrize("what", KINDS)
def test_a_file_is_known_by_its_content_not_by_its_name(formats, tmp_path, what):
    name, kind = KINDS[what]
    (tmp_path / "file.bin").write_bytes((formats.root / name).read_bytes())
    assert airlock.kind_of(tmp_path / "file.bin") == kind
    assert airlock.examine(tmp_path / "file.bin").objections == ()


def rewritten(source: Path, target: Path, change) -> Path:
    """A torch.export archive with its model.json changed."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for entry in old.infolist():
            content = old.read(entry)
            if entry.filename.endswith("models/model.json"):
                described = json.loads(content)
                change(described)
                content = json.dumps(described).encode()
            new.writestr(entry.filename, content)
    return target


def by_guard(described, canary):
    described["guards_code"] = [f"__import__('os').system('touch {canary}') == 0"]


def by_size(described, canary):
    sizes = described["graph_module"]["graph"]["tensor_values"]["x"]["sizes"]
    sizes[0]["as_expr"]["expr_str"] = f"__import__('os').system('touch {canary}') or 5"


def by_target(described, canary):
    node = described["graph_module"]["graph"]["nodes"][0]
    node["target"] = "torch.os.system"
    node["inputs"] = [{"name": "c", "arg": {"as_string": f"touch {canary}"}, "kind": 1}]


def by_input_name(described, canary):
    graph = described["graph_module"]["graph"]
    graph["inputs"][0] = {"as_tensor": {"name": f"x=__import__('os').system('touch {canary}')"}}


def by_tree(described, canary):
    call = described["graph_module"]["module_call_graph"][0]["signature"]
    context = {"default_factory_module": "os", "default_factory_name": "getpid", "dict_context": []}
    call["in_spec"] = json.dumps(
        [1, {"type": "collections.defaultdict", "context": context, "children_spec": []}]
    )


def by_file(described, canary):
    described["graph_module"]["graph"]["nodes"][0]["target"] = "torch.ops.aten.from_file.default"


@pytest.mark.parametrize("how", [by_guard, by_size, by_target, by_input_name, by_tree, by_file])
def test_strings_of_an_export_archive_that_torch_would_evaluate_are_refused(
    formats, tmp_path, canary, how
):
    rewritten(formats.root / "free.pt2", tmp_path / "m.pt2", lambda d: how(d, canary))
    with pytest.raises(UntrustedModel, match=r"evaluate|holds the name"):
        torch_export.load(root=tmp_path, path="m.pt2")
    assert not canary.exists()


@pytest.mark.parametrize("how", [by_guard, by_size])
def test_these_strings_do_run_when_torch_loads_them(formats, tmp_path, canary, how):
    """The reason for reading them: torch evaluates what the archive says."""
    path = rewritten(formats.root / "free.pt2", tmp_path / "m.pt2", lambda d: how(d, canary))
    with contextlib.suppress(Exception):  # torch may complain afterwards
        torch.export.load(path).module()(torch.from_numpy(formats.x))
    assert canary.exists()


def test_an_entry_that_no_export_archive_has_is_refused(formats, tmp_path):
    for name, said in (
        ("data/aotinductor/model/m.so", "no part"),
        ("data/constants/opaque_obj_0", "no part"),
    ):
        path = tmp_path / "m.pt2"
        rewritten(formats.root / "free.pt2", path, lambda _: None)
        with zipfile.ZipFile(path, "a") as zipped:
            zipped.writestr(f"free/{name}", b"x")
        with pytest.raises(UntrustedModel, match=said):
            torch_export.load(root=tmp_path, path="m.pt2")


def test_pickled_sample_inputs_of_an_export_archive_are_read_too(formats, tmp_path, canary):
    path = tmp_path / "m.pt2"
    with zipfile.ZipFile(formats.root / "free.pt2") as old, zipfile.ZipFile(path, "w") as new:
        for entry in old.infolist():
            content = old.read(entry)
            if entry.filename.endswith("model.pt"):
                inner = torch_archive(tmp_path / "inner.pt", pickle.dumps(touch(canary)))
                content = inner.read_bytes()
            new.writestr(entry.filename, content)
    with pytest.raises(UntrustedModel, match=r"posix\.system"):
        torch_export.load(root=tmp_path, path="m.pt2")
    assert not canary.exists()


@pytest.mark.parametrize(
    "build",
    [
        lambda: (torch.nn.LSTM(4, 3, batch_first=True), torch.rand(2, 5, 4)),
        lambda: (torch.nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), torch.rand(2, 5, 8)),
        lambda: (torch.nn.Sequential(torch.nn.Embedding(9, 4), torch.nn.Flatten()), torch.ones(2, 3).long()),
        lambda: (torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.AdaptiveAvgPool2d(1)),
                 torch.rand(2, 3, 8, 8)),
    ],
    ids=["LSTM", "Transformer", "Embedding", "CNN"],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:The tensor attributes self._flat_weights")
def test_honest_export_archives_pass(tmp_path, build):
    with torch.random.fork_rng():
        net, example = build()
    net.eval()
    dynamic = ({0: torch.export.Dim("batch", min=1, max=512)},)
    torch.export.save(
        torch.export.export(net, (example,), dynamic_shapes=dynamic), tmp_path / "m.pt2"
    )
    assert airlock.examine(tmp_path / "m.pt2") == airlock.Reading("torch.export archive")


@pytest.mark.parametrize(
    ("text", "harmless"),
    [
        ("Symbol('s0', positive=True, integer=True)", True),
        ("Mod(Symbol('s0', integer=True), 8) + 2*s1", True),
        ("Max(1, FloorDiv(s0, 2))", True), ("L['x'].size()[0] == 3", True),
        ("L['args'][0][0].size()[1] <= 8 and not L['flag']", True), ("-oo", True),
        ("__import__('os')", False), ("open('x', 'w')", False), ("s0.__class__", False),
        ("S('x')", False), ("[x for x in y]", False), ("lambda: 0", False), ("(yield)", False),
        ("eval", True), ("eval('1')", False), ("f'{x}'", False), ("Symbol('x(1)')", False),
        ("a := 3", False), ("x if y else z", False), ("'text'", False), ("", False), ("((", False),
        ("sympify(1)", False), ("L['x'].size(__import__)", False),
    ],
)  # fmt: skip
def test_only_arithmetic_over_sizes_is_harmless(text, harmless):
    assert arithmetic(text) is harmless


def test_torchscript_that_touches_files_is_refused(tmp_path, canary):
    source = (
        f"def forward(self, x):\n    torch.from_file({str(canary)!r}, True, 10)\n    return x\n"
    )
    with zipfile.ZipFile(tmp_path / "s.pt", "w") as zipped:
        zipped.writestr("s/data.pkl", pickle.dumps({}, protocol=2))
        zipped.writestr("s/constants.pkl", pickle.dumps((), protocol=2))
        zipped.writestr("s/code/__torch__.py", source)
    with pytest.raises(UntrustedModel, match="from_file"):
        torchscript.load(root=tmp_path, path="s.pt")
    assert not canary.exists()


def test_a_pickle_of_foreign_classes_in_torchscript_is_refused(tmp_path, canary):
    with zipfile.ZipFile(tmp_path / "s.pt", "w") as zipped:
        zipped.writestr("s/data.pkl", pickle.dumps(touch(canary)))
        zipped.writestr("s/code/__torch__.py", "")
    with pytest.raises(UntrustedModel, match=r"posix\.system"):
        torchscript.load(root=tmp_path, path="s.pt")
    assert not canary.exists()


@settings(max_examples=60)
@given(st.integers(0, 4000), st.binary(min_size=1, max_size=8), st.integers(0, 100))
def test_a_damaged_archive_is_read_or_refused_but_never_crashes(saved, position, noise, cut):
    content = bytearray((saved.root / "weights.pt").read_bytes())
    content[position : position + len(noise)] = noise
    path = saved.root / "damaged.pt"
    path.write_bytes(bytes(content[: len(content) - cut]))
    try:
        airlock.examine(path)
    except LoadError as error:
        assert "damaged.pt" in str(error)  # noqa: PT017


def test_a_pickled_tensor_of_an_export_archive_must_lie_where_tensors_lie(formats, tmp_path):
    def pickled(content):
        described = json.loads(content)
        first = next(iter(described["config"].values()))
        first["use_pickle"], first["path_name"] = True, "opaque_obj_0"
        return json.dumps(described).encode()

    path = tmp_path / "m.pt2"
    with zipfile.ZipFile(formats.root / "free.pt2") as old, zipfile.ZipFile(path, "w") as new:
        for entry in old.infolist():
            content = old.read(entry)
            weights = entry.filename.endswith("model_weights_config.json")
            new.writestr(entry.filename, pickled(content) if weights else content)
    with pytest.raises(UntrustedModel, match="would unpickle 'opaque_obj_0'"):
        torch_export.load(root=tmp_path, path="m.pt2")


@pytest.mark.parametrize(
    ("value", "key", "harmless"),
    [
        ("torch.ops.aten.linear.default", "target", True), ("torch.ops.aten.__and__.Tensor", "target", True),
        ("_operator.add", "target", True), ("_operator.methodcaller", "target", False),
        ("torch.ops.import_module.__call__.__call__", "target", False),
        ("torch.ops.aten.__class__.mro", "target", False), ("math.factorial", "target", False),
        ("torch.ops.higher_order.cond", "target", True), ("builtins.eval", "target", False),
        ("anything ('goes') here", "as_string", True), ("x", "name", True), ("x y", "name", False),
        ("3x", "name", False), ("cuda:0", "type", True), ("x)", "fqn", False), ("", "in_spec", True),
        ("[1", "in_spec", False), ("[1, 2]", "in_spec", False), ("3", "in_spec", False),
        ('[1, {"type": "builtins.dict", "context": "[\\"a\\"]", "children_spec": []}]', "in_spec", True),
        ('[1, {"type": "builtins.tuple", "context": "{\\"__enum__\\": true}", "children_spec": []}]',
         "in_spec", False),
        ('[1, {"type": "builtins.list", "context": null, "children_spec": [{"type": "os"}]}]',
         "out_spec", False),
    ],
)  # fmt: skip
def test_strings_of_an_export_archive_are_judged_by_where_they_stand(value, key, harmless):
    assert _harmless(value, key) is harmless


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"cposix\nsystem\n.", "pickle"), (b"columns,of,a,table\n1,2\n", "unknown"), (b"(1,2)\n", "unknown"),
        (b"\x80\x04N.", "pickle"), (b"\x80\x09N.", "unknown"), (b"\x80", "unknown"), (b"plain", "unknown"),
    ],
)  # fmt: skip
def test_pickles_are_told_from_text(tmp_path, content, kind):
    (tmp_path / "f").write_bytes(content)
    assert airlock.kind_of(tmp_path / "f") == kind


@pytest.mark.parametrize(
    "content",
    [b"\x80\x04" + code for code in (b".", b"h\x05.", b"0.", b"2.", b"\x94.", b"t.", b"q\x00.")],
    ids=["STOP", "GET", "POP", "DUP", "MEMOIZE", "TUPLE", "PUT"],
)  # fmt: skip
def test_an_opcode_that_finds_nothing_to_take_is_malformed(tmp_path, content):
    torch_archive(tmp_path / "w.pt", content)
    with pytest.raises(LoadError, match="expected a whole pickle"):
        airlock.admit(tmp_path / "w.pt", **WEIGHTS)


def test_a_pickle_too_long_to_be_read_is_refused(tmp_path, monkeypatch):
    torch_archive(tmp_path / "w.pt", pickle.dumps("x" * 500))
    monkeypatch.setattr("dlaudit.models.pickle_reading.LIMIT", 100)
    with pytest.raises(UntrustedModel, match="a pickle of more than 100 bytes"):
        airlock.admit(tmp_path / "w.pt", **WEIGHTS)


def test_json_too_long_to_be_read_is_refused(formats, monkeypatch):
    monkeypatch.setattr("dlaudit.models.export_reading.LIMIT", 100)
    with pytest.raises(UntrustedModel, match=r"holds models/model\.json of more than 100 bytes"):
        torch_export.load(root=formats.root, path="free.pt2")


def test_text_that_could_be_a_dozen_levels_deep_or_a_thousand_is_not_arithmetic():
    assert arithmetic("(" * 30 + "1" + ")" * 30)
    assert not arithmetic("-" * 100_000 + "1")
    assert not arithmetic("Symbol('a', 'b')")
    assert not arithmetic("Max(*x)")


def test_many_objections_are_counted_not_listed(tmp_path, canary):
    names = ("system", "popen", "remove", "mkdir", "getpid")
    torch_archive(
        tmp_path / "w.pt", pickle.dumps([Calls(getattr(os, name), "x") for name in names])
    )
    with pytest.raises(UntrustedModel, match="and 2 more"):
        airlock.admit(tmp_path / "w.pt", **WEIGHTS)


@settings(max_examples=60)
@given(st.integers(0, 3000), st.binary(min_size=1, max_size=6), st.integers(0, 300))
def test_damaged_safetensors_are_loaded_or_refused(saved, position, noise, cut):
    content = bytearray((saved.root / "weights.safetensors").read_bytes())
    content[position : position + len(noise)] = noise
    (saved.root / "damaged.safetensors").write_bytes(bytes(content[: len(content) - cut]))
    try:
        torch_files.load(root=saved.root, file="net.py:build", weights="damaged.safetensors")
    except LoadError as error:
        assert "damaged.safetensors" in str(error)  # noqa: PT017


@settings(max_examples=60)
@given(st.integers(0, 3000), st.binary(min_size=1, max_size=6), st.integers(0, 300))
def test_a_damaged_state_dict_is_loaded_or_refused(saved, position, noise, cut):
    content = bytearray((saved.root / "weights.pt").read_bytes())
    content[position : position + len(noise)] = noise
    (saved.root / "damaged.pt").write_bytes(bytes(content[: len(content) - cut]))
    try:
        torch_files.load(root=saved.root, file="net.py:build", weights="damaged.pt")
    except LoadError as error:
        assert "damaged.pt" in str(error)  # noqa: PT017
