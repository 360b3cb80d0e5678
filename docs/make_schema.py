"""Writes docs/record.schema.json: the JSON Schema of ``record.json``, for whoever reads records.

python docs/make_schema.py
"""

from __future__ import annotations

import json
from pathlib import Path

from dlaudit.audit.record import json_schema

PAGE = Path(__file__).parent / "record.schema.json"


def main() -> None:
    """Write the schema."""
    PAGE.write_text(page(), encoding="utf-8")


def page() -> str:
    """The schema as JSON, with sorted keys."""
    return json.dumps(json_schema(), indent=2, sort_keys=True, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    main()
