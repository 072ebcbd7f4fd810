"""The documentation page of the endpoints, made from the OpenAPI description. The page loads no other files and runs no script."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup, escape

PAGE = Path(__file__).with_name("api_page.html")
REPEATED = "http://127.0.0.1:8000"  # of the examples


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """The description of an endpoint on the page.

    Attributes:
        verb: HTTP method.
        path: Path, with parameters in braces.
        summary: One sentence that describes the endpoint.
        description: A paragraph with details; can be empty.
        command: Example of a request, as a shell command.
        answers: Status, meaning, and name of the schema of every possible answer.
    """

    verb: str
    path: str
    summary: str
    description: str
    command: str
    answers: tuple[tuple[str, str, str], ...]


def api_page(openapi: Mapping[str, Any]) -> str:
    """Return the documentation page as HTML.

    Args:
        openapi: The OpenAPI description, which `/openapi.json` returns.
    """
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["code"] = _code
    forms = openapi.get("components", {}).get("schemas", {})
    return environment.from_string(PAGE.read_text(encoding="utf-8")).render(
        title=openapi["info"]["title"],
        version=openapi["info"]["version"],
        description=openapi["info"]["description"],
        endpoints=list(_endpoints(openapi)),
        forms={
            name: (form.get("description", ""), [(key, _kind(value), value.get("description", "")) for key, value in _fields(form)])
            for name, form in sorted(forms.items())
        },
    )


def _code(text: str) -> Markup:
    """Return the text escaped for HTML, in which words in backticks are shown as code."""
    return Markup(re.sub(r"`([^`]*)`", r"<code>\1</code>", str(escape(text))))


def _endpoints(openapi: Mapping[str, Any]) -> Iterator[Endpoint]:
    for path, verbs in openapi["paths"].items():
        for verb, about in verbs.items():
            answers = tuple(
                (status, answer.get("description", ""), _form(answer)) for status, answer in sorted(about.get("responses", {}).items())
            )
            yield Endpoint(
                verb=verb.upper(),
                path=path,
                summary=about.get("summary", ""),
                description=about.get("description", ""),
                command=_command(verb.upper(), path, about),
                answers=answers,
            )


def _command(verb: str, path: str, about: Mapping[str, Any]) -> str:
    words = [
        "curl",
        *(["-X", verb] if verb not in ("GET",) and "requestBody" not in about else []),
        REPEATED + path.replace("{session}", "$SESSION"),
    ]
    if "requestBody" in about:
        example = about["requestBody"]["content"]["application/json"]["example"]
        words += ["--data-binary", f"'{json.dumps(example)}'"]
    return " ".join(words)


def _form(answer: Mapping[str, Any]) -> str:
    schema = answer.get("content", {}).get("application/json", {}).get("schema", {})
    return str(schema.get("$ref", "")).rpartition("/")[2]


def _fields(form: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    yield from form.get("properties", {}).items()


def _kind(value: Mapping[str, Any]) -> str:
    """Return the type of a field of an OpenAPI schema as text."""
    if "$ref" in value:
        return str(value["$ref"]).rpartition("/")[2]
    if "anyOf" in value:
        return " or ".join(_kind(one) for one in value["anyOf"])
    if value.get("type") == "array":
        return f"list of {_kind(value.get('items', {}))}"
    if value.get("type") == "object" and isinstance(value.get("additionalProperties"), dict):
        return f"name → {_kind(value['additionalProperties'])}"
    return str(value.get("type", "anything"))
