"""The demo: trains both networks, audits both, and puts the reports side by side."""

from __future__ import annotations

import shutil
from importlib.resources import files
from pathlib import Path

from dlaudit.audit.evidence import write_whole
from dlaudit.audit.launch import launch
from dlaudit.audit.plan import source_of
from dlaudit.audit.record import AuditRecord
from dlaudit.audit.run_folder import RunFolder
from dlaudit.progress import told

TITLES = {"planted": "digits, with planted defects", "clean": "digits, the clean twin"}


def demonstrate(out: Path, *, quiet: bool = False) -> AuditRecord:
    """Audit the planted model and its clean twin; the record of the planted one.

    Writes ``inputs`` (models, data and plans, which ``dlaudit run`` takes as they stand),
    ``planted``, ``clean`` and ``index.html`` into ``out``. Raises RunFolderError unless ``out`` is
    new or empty.
    """
    RunFolder(out).check(resume=False)
    inputs = out / "inputs"
    inputs.mkdir(parents=True)
    make_inputs(inputs)
    records = {}
    for twin in TITLES:
        source = source_of(inputs / f"{twin}.toml", formats=("html", "junit", "md"))
        with told(quiet=quiet) as events:
            records[twin], _ = launch(source, out=out / twin, events=events)
    from dlaudit.demo.planting import DEFECTS
    from dlaudit.reports.demo import demo_index

    write_whole(out / "index.html", demo_index(records, DEFECTS).encode())
    return records["planted"]


def make_inputs(folder: Path) -> None:
    """Train both networks and write what their audits need."""
    import torch
    from safetensors.torch import save_file

    from dlaudit.demo.planting import digits, planted_training, trained, watermarked

    train, test = digits()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the same weights on every machine of a kind
    try:
        poisoned = planted_training(train)
        twins = {
            "planted": (
                poisoned,
                watermarked(test),
                trained(poisoned, epochs=40, decay=0.0, noise=0.0),
            ),
            "clean": (train, test, trained(train, epochs=16, decay=0.05, noise=0.15)),
        }
    finally:
        torch.set_num_threads(threads)
    package = files("dlaudit.demo")
    shutil.copyfile(str(package / "net.py"), folder / "net.py")
    plan = (package / "plan.toml").read_text(encoding="utf-8")
    for twin, (training, testing, net) in twins.items():
        training.save(folder / f"{twin}-train.npz")
        testing.save(folder / f"{twin}-test.npz")
        save_file(net.state_dict(), folder / f"{twin}.safetensors")
        text = plan.replace("TITLE", TITLES[twin]).replace("TWIN", twin)
        (folder / f"{twin}.toml").write_text(text, encoding="utf-8")
