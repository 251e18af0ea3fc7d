"""YAML for people. Imports PyYAML, which takes 13 ms."""

import json
from typing import Any

import yaml


def _represent_text(dumper: Any, text: str) -> Any:
    """Write text of several lines as a block, which people can read."""
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style)


_DUMPER: Any = type("_Dumper", (yaml.CSafeDumper,), {})
_DUMPER.add_representer(str, _represent_text)


def to_yaml(value: Any) -> bytes:
    """Return a JSON value as YAML in UTF-8.

    It is copied as JSON first: the copy has plain strings in place of enums, and nothing twice,
    which YAML would write as a reference.
    """
    text: bytes = yaml.dump(
        json.loads(json.dumps(value)),
        Dumper=_DUMPER,
        encoding="utf-8",
        allow_unicode=True,
        sort_keys=False,
        width=100,
    )
    return text
