"""The CloudFormation templates as data, and what their functions come to for given parameters.

What must hold: what a test knows of tables, prefixes, formats and queries it reads from here, so that nothing of a
template is written twice. `resolved` knows the functions that the templates use, and refuses any other.
"""

import base64
import importlib
import re
import sys
from functools import cache
from pathlib import Path
from typing import Any

import yaml

CLOUD = Path(__file__).resolve().parents[2] / "packaging" / "cloud"
QUERIES = sorted((CLOUD / "queries").glob("*.sql"))
STACKS = sorted(path.name for path in (CLOUD / "templates").iterdir())
VIEWS = sorted((CLOUD / "queries" / "views").glob("*.sql"))


class _Loader(yaml.SafeLoader):
    """YAML with CloudFormation's short forms spelled out."""


def _function(loader: yaml.SafeLoader, suffix: str, node: yaml.Node) -> dict[str, Any]:
    if isinstance(node, yaml.ScalarNode):
        value: Any = loader.construct_scalar(node)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        value = loader.construct_mapping(node, deep=True)
    if suffix == "GetAtt" and isinstance(value, str):
        value = value.split(".", 1)
    return {suffix if suffix in ("Ref", "Condition") else f"Fn::{suffix}": value}


_Loader.add_multi_constructor("!", _function)


@cache
def renderer() -> Any:
    """packaging/cloud/lib/render.py as a module."""
    sys.path.insert(0, str(CLOUD / "lib"))
    return importlib.import_module("render")


def load(stack: str = "lake") -> dict[str, Any]:
    """The stack's rendered template; the caller may change it."""
    return parsed(renderer().render(stack))


def parsed(text: str) -> dict[str, Any]:
    return yaml.load(text, _Loader)


def resolved(template: dict[str, Any], value: Any, **parameters: Any) -> Any:
    """`value` with its functions carried out: parameters by default, resources by their logical id."""
    names = {name: p["Default"] for name, p in template["Parameters"].items() if "Default" in p} | parameters
    names |= {"AWS::Partition": "aws", "AWS::Region": "ap-south-1", "AWS::AccountId": "111122223333", "AWS::StackName": "hr"}

    def condition(test: Any) -> bool:
        (function, value), = test.items()
        match function:
            case "Condition": return condition(template["Conditions"][value])
            case "Fn::Equals": return str(go(value[0])) == str(go(value[1]))
            case "Fn::Not": return not condition(value[0])
            case "Fn::And": return all(condition(one) for one in value)
            case "Fn::Or": return any(condition(one) for one in value)
        raise ValueError(function)

    def substitute(text: str, local: dict[str, Any]) -> str:
        def one(match: re.Match[str]) -> str:
            name, _, attribute = match[1].partition(".")
            if name.startswith("!"):
                return f"${{{match[1][1:]}}}"
            if attribute:
                return f"arn:{name}" if attribute == "Arn" else match[1]
            known = names | local
            return str(known[name]) if name in known else physical(name)

        return re.sub(r"\$\{([^}]+)\}", one, text)

    def physical(logical: str) -> str:
        properties = template["Resources"][logical].get("Properties", {})
        own_name = properties.get("DatabaseInput", properties.get("TableInput", properties)).get("Name", logical)
        return go(own_name)

    def go(value: Any) -> Any:
        if isinstance(value, list):
            return [one for one in map(go, value) if one is not None]
        if not isinstance(value, dict):
            return value
        if len(value) == 1:
            (function, inner), = value.items()
            match function:
                case "Ref": return None if inner == "AWS::NoValue" else names.get(inner) if inner in names else physical(inner)
                case "Fn::GetAtt": return f"arn:{inner[0]}" if inner[1] == "Arn" else ".".join(inner)
                case "Fn::If": return go(inner[1] if condition(template["Conditions"][inner[0]]) else inner[2])
                case "Fn::Sub" if isinstance(inner, str): return substitute(inner, {})
                case "Fn::Sub": return substitute(inner[0], {name: go(one) for name, one in inner[1].items()})
                case "Fn::FindInMap": return template["Mappings"][inner[0]][go(inner[1])][inner[2]]
                case "Fn::Join": return inner[0].join(go(inner[1]))
                case "Fn::Base64": return base64.b64encode(go(inner).encode()).decode()
            if function.startswith("Fn::"):
                raise ValueError(function)
        return {name: done for name, one in value.items() if (done := go(one)) is not None}

    return go(value)
