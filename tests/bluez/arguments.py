"""What the words of a command mean; a word that means nothing becomes the command's answer."""

import re
from typing import Any

ADDRESS = re.compile(r"[0-9A-F]{2}(:[0-9A-F]{2}){5}")
ADAPTER = re.compile(r"hci[0-9]+")
ESCAPE = re.compile(r"\\x([0-9A-Fa-f]{2})|\\u([0-9A-Fa-f]{4})")


class CommandError(Exception):
    """What was asked makes no sense; the text is the answer."""


def parse_address(word: str) -> str:
    address = word.upper()
    if not ADDRESS.fullmatch(address):
        raise CommandError(f"{word!r} is not an address")
    return address


def parse_adapter(word: str) -> str:
    if not ADAPTER.fullmatch(word):
        raise CommandError(f"{word!r} is not an adapter's name")
    return word


def parse_company(word: str) -> int:
    company = int(word, 16)
    if not 0 <= company <= 0xFFFF:
        raise CommandError(f"{word!r} is not a company identifier")
    return company


def parse_text(word: str) -> str:
    """A text, which has no blank: `_` is a space, `\\xNN` and `\\uNNNN` are as in Python."""
    text = ESCAPE.sub(lambda match: chr(int(match[1] or match[2], 16)), word.replace("_", " "))
    text.encode()  # refuses half a surrogate pair
    if "\0" in text:
        raise CommandError("D-Bus carries no NUL")
    return text


def choose(word: str, choices: dict[str, Any]) -> Any:
    if word not in choices:
        raise CommandError(f"{word!r} is none of {', '.join(choices)}")
    return choices[word]


def parse_option(option: str) -> tuple[str, Any]:
    """One `key=value` of `sensor`: the field of Sensor, or `paired`, and its value."""
    key, _, value = option.partition("=")
    if key in ("battery", "location", "rssi"):
        return key, int(value)
    if key in ("manufacturer", "model"):
        return key, parse_text(value)
    if key == "gap":
        return "gap_name", parse_text(value)
    if key == "type":
        return "address_type", choose(value, {"public": "public", "random": "random"})
    if key == "bond":
        return "bond_required", choose(value, {"required": True})
    if key == "hrs":
        return "advertises_heart_rate", choose(value, {"yes": True, "no": False})
    if key == "paired":
        return "paired", parse_adapter(value)
    raise CommandError(f"a sensor has no option {key!r}")
