"""What a piece of a template can come to: one for each way in which the conditions it asks for can turn out.

What must hold: a condition asked for twice turns out the same in one variant.
"""

import itertools
from collections.abc import Iterator
from typing import Any


def asked(value: Any) -> set[str]:
    """The conditions of every Fn::If in it."""
    if isinstance(value, list):
        return set().union(*map(asked, value)) if value else set()
    if not isinstance(value, dict):
        return set()
    own = {value["Fn::If"][0]} if "Fn::If" in value else set()
    return own.union(*map(asked, value.values()))


def variants(value: Any) -> Iterator[Any]:
    """`value` without its Fn::If, in each way."""
    names = sorted(asked(value))
    for turns in itertools.product((True, False), repeat=len(names)):
        yield _chosen(value, dict(zip(names, turns, strict=True)))


def _chosen(value: Any, turns: dict[str, bool]) -> Any:
    if isinstance(value, list):
        return [one for one in (_chosen(one, turns) for one in value) if one != NOTHING]
    if not isinstance(value, dict):
        return value
    if "Fn::If" in value:
        name, then, otherwise = value["Fn::If"]
        return _chosen(then if turns[name] else otherwise, turns)
    return {name: done for name, one in value.items() if (done := _chosen(one, turns)) != NOTHING}


NOTHING = {"Ref": "AWS::NoValue"}
