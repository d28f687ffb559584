"""What the docstring of an algorithm says, in parts."""

import inspect
import re

import docstring_parser


def headline(cls: type) -> str:
    """The first line."""
    return (_parsed(cls).short_description or "").rstrip(".")


def prose(cls: type) -> str:
    """What stands before the attributes."""
    return (inspect.getdoc(cls) or "").split("\n\nAttributes:")[0]


def hyperparameters(cls: type) -> dict[str, str]:
    """The description of every attribute; one entry may stand for several: `cognitive, social`."""
    described = {}
    for entry in _parsed(cls).params:
        for name in entry.arg_name.split(","):
            described[name.strip()] = " ".join((entry.description or "").split())
    return described


def reference(cls: type) -> str:
    """The paragraph that begins with "Reference:", without that word."""
    match = re.search(r"Reference: (.*?)(?:\n\n|$)", inspect.getdoc(cls) or "", re.DOTALL)
    return " ".join(match[1].split()) if match else ""


def _parsed(cls: type) -> docstring_parser.Docstring:
    return docstring_parser.parse(
        inspect.getdoc(cls) or "", style=docstring_parser.DocstringStyle.GOOGLE
    )
