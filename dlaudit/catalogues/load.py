"""Requirements as data: reads the catalogues that ship beside this file, and others like them.

Knows frameworks and their items; never how anything is measured. The texts are paraphrases, not law.
"""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import msgspec

from dlaudit.audit.record import Catalogue, Feed, Requirement


def eu_ai_act() -> Catalogue:
    """The items of Regulation (EU) 2024/1689 (AI Act) as amended, paraphrased."""
    return shipped("eu_ai_act")


def nist_ai_rmf() -> Catalogue:
    """The MEASURE function of the NIST AI Risk Management Framework, paraphrased."""
    return shipped("nist_ai_rmf")


def nist_ai_100_2() -> Catalogue:
    """The attacks on predictive AI by their identifiers in NIST AI 100-2."""
    return shipped("nist_ai_100_2")


def iso_iec() -> Catalogue:
    """A watch list of ISO/IEC standards: numbers and titles only."""
    return shipped("iso_iec")


def shipped(name: str) -> Catalogue:
    """A catalogue that ships with dlaudit."""
    return read((files("dlaudit.catalogues") / f"{name}.json").read_bytes())


def read(raw: bytes) -> Catalogue:
    """A catalogue from its file: items without their framework, and the digest of it all.

    Raises ValueError if it cannot be read, or if it was changed and not sealed again.
    """
    written: dict[str, Any] = msgspec.json.decode(raw, type=dict[str, Any])
    sealed = written.pop("sha256", None)
    catalogue = filled(written)
    if sealed != catalogue.sha256:
        message = (
            f"the catalogue {catalogue.framework!r} was changed since it was sealed: its digest is "
            f"{catalogue.sha256[:12]}, the file says {str(sealed)[:12]}"
        )
        raise ValueError(message)
    return catalogue


def filled(written: dict[str, Any]) -> Catalogue:
    """The catalogue of a table whose items leave out the framework.

    Raises ValueError for a key that is not known (read as nothing, it would not change the digest),
    msgspec.ValidationError for a value that does not fit.
    """
    framework = written.get("framework", "")
    strange = {*written} - {*Catalogue.__struct_fields__}
    strange |= {key for item in written["items"] for key in item} - {*Requirement.__struct_fields__}
    feeds = written.get("feeds", {}).values()
    strange |= {key for feed in feeds for key in feed} - {*Feed.__struct_fields__}
    if strange:
        message = f"the catalogue {framework!r} has the unknown key {min(strange)!r}"
        raise ValueError(message)
    items = [{"framework": framework, **item} for item in written["items"]]
    return msgspec.convert({**written, "items": items}, Catalogue, strict=False)
