"""A pickle that was allowed runs in a process that can do nothing but compute; tensors come back."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import socket
import sys
from pathlib import Path

import pytest
from test_airlock import Calls, torch_archive

from dlaudit.audit.registry import import_file
from dlaudit.errors import LoadError
from dlaudit.models import quarantine, torch_files
from dlaudit.models.confinement import RIGHTS, Confined

CODE = '''
import os
import socket
import subprocess
import time

import torch
from torch import nn


def build():
    return nn.Linear(5, 1, bias=False)


def attempts(canary, port, parent):
    """What succeeded, as the weights of the net: a write, a connection, a process, a signal, a secret."""

    def tried(action):
        try:
            action()
        except Exception:
            return 0.0
        return 1.0

    return torch.tensor([[
        tried(lambda: open(canary, "w").close()),
        tried(lambda: socket.create_connection(("127.0.0.1", port), timeout=5).close()),
        tried(lambda: subprocess.run(["touch", canary], check=True)),
        tried(lambda: os.kill(parent, 0)),
        tried(lambda: os.environ["DLAUDIT_TEST_SECRET"]),
    ]])


def hoard():
    return torch.zeros(1 << 36)


def spin():
    while True:
        pass


def vanish():
    os._exit(7)


def forge():
    """Write to the parent what only the process itself should say."""
    os.write(1, b'[["everything"], []]\\n')
    return torch.ones(1, 5)
'''


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "net.py").write_text(CODE)
    return tmp_path


def planted(folder: Path, name: str, *arguments: object) -> Path:
    """A whole-module pickle whose weights are made by a call into the code."""
    function = getattr(import_file(folder / "net.py"), name)
    return torch_archive(folder / "w.pt", pickle.dumps({"weight": Calls(function, *arguments)}))


def opened(folder: Path, weights: Path):
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    return torch_files.load(root=folder, file="net.py:build", weights=weights.name, allow=[digest])


@pytest.mark.skipif(sys.platform != "linux", reason="Landlock and seccomp are Linux's")
def test_allowed_code_can_neither_write_nor_call_nor_start_anything(folder, canary, monkeypatch):
    monkeypatch.setenv("DLAUDIT_TEST_SECRET", "hush")
    with socket.create_server(("127.0.0.1", 0)) as server:
        weights = planted(folder, "attempts", str(canary), server.getsockname()[1], os.getpid())
        model = opened(folder, weights)
    confinement = model.card.facts["confinement"]
    did = dict(
        zip(("writing elsewhere", "network", "further processes", "signals", "secrets"),
            model.module.net.weight[0].tolist(), strict=True)
    )  # fmt: skip
    assert did["secrets"] == 0
    for right in ("writing elsewhere", "network", "further processes"):
        assert did[right] == (0 if right in confinement["held"] else 1)
    assert sorted([*confinement["held"], *confinement["missing"]]) == sorted(RIGHTS)
    if "further processes" in confinement["held"]:
        assert did["signals"] == 0
    if not confinement["missing"]:
        assert not canary.exists()
    told = model.card.facts["airlock"]["weights"]
    assert "allowed by its sha256" in told
    assert "in a process of its own" in told


def test_the_same_code_does_all_of_it_where_nothing_holds_it(folder, canary, monkeypatch):
    """The probe is not harmless by mistake."""
    monkeypatch.setenv("DLAUDIT_TEST_SECRET", "hush")
    module = import_file(folder / "net.py")
    with socket.create_server(("127.0.0.1", 0)) as server:
        done = module.attempts(str(canary), server.getsockname()[1], os.getpid())
    assert done.tolist() == [[1.0] * 5]
    assert canary.exists()


@pytest.mark.parametrize(
    ("name", "said"), [("hoard", "expected a state dict"), ("vanish", "its end by code 7")]
)
def test_code_that_fills_the_memory_or_vanishes_ends_in_one_sentence(folder, name, said):
    with pytest.raises(LoadError, match=said) as refused:
        opened(folder, planted(folder, name))
    assert "\n" not in str(refused.value)


def test_code_that_never_ends_is_ended(folder):
    with pytest.raises(LoadError, match=r"its end by signal|no end after"):
        quarantine.released(planted(folder, "spin"), f"{folder}/net.py:build", seconds=1)


@pytest.mark.slow
def test_code_cannot_say_itself_how_it_was_confined(folder):
    model = opened(folder, planted(folder, "forge"))
    assert "everything" not in model.card.facts["confinement"]["held"]


@pytest.mark.slow
def test_what_is_no_state_dict_is_named(folder):
    weights = torch_archive(folder / "w.pt", pickle.dumps(Calls(len, "abc")))
    with pytest.raises(LoadError, match=r"expected a state dict .*, got a int"):
        opened(folder, weights)


def test_what_could_not_be_enforced_is_said_in_capitals():
    assert quarantine.described(Confined(RIGHTS, ())) == (
        "its code ran in a process of its own, kept from writing elsewhere, network, further processes, "
        "memory beyond a limit, time beyond a limit, file size beyond a limit"
    )
    told = quarantine.described(Confined(("time",), ("memory", "network")))
    assert told.endswith(
        "kept from time beyond a limit; NOT enforced on this system: network, memory beyond a limit"
    )
    assert "kept from nothing" in quarantine.described(Confined((), RIGHTS))


def test_an_audit_of_an_allowed_pickle_says_so_first(folder, dlaudit_process):
    import numpy as np

    weights = planted(folder, "attempts", "/nonexistent/canary", 1, 1)
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    np.savez(folder / "d.npz", x=np.eye(5, dtype=np.float32), y=np.array([0, 1, 0, 1, 1]))
    (folder / "audit.toml").write_text(
        f"""
name = "allowed"
[model]
use = "torch"
args = {{ file = "net.py:build", weights = "w.pt", allow = ["{digest}"] }}
[data]
use = "npz"
args = {{ path = "d.npz" }}
[checks."attacks.fgsm"]
epsilon = 0.1
"""
    )
    ended = dlaudit_process(
        "run", folder / "audit.toml", "--out", folder / "out", "--executor", "inline"
    )
    record = json.loads((folder / "out" / "record.json").read_text())
    assert record["model"]["facts"]["confinement"]["held"], ended.stderr
    html = (folder / "out" / "report.html").read_text()
    said, first = html.index("in a process of its own"), html.index("<h2")
    assert said < first
