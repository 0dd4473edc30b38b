"""Makes an exported program (`.pt2`) safe to hand to `torch.export.load`.

`torch.export.load` (read: torch 2.13) runs code that a file carries in several places: compiled libraries,
pickled example inputs, constants and weights, guard expressions (`exec`), symbolic sizes (`eval`), names
that end up in generated source, and input trees that import the modules they name. So the archive is built
anew from what was checked here: the graph, in which every string is of a known kind, and raw tensor bytes.
Whatever is not needed is left out; whatever is needed and not recognised is refused.
"""

import ast
import io
import json
import re
import zipfile
from typing import Any, Never

from skyfan.errors import ModelError
from skyfan.models._inert import open_archive, read_entry

GRAPH = "models/model.json"
WEIGHTS_FOLDER, CONSTANTS_FOLDER = "data/weights/", "data/constants/"
WEIGHTS_CONFIG = f"{WEIGHTS_FOLDER}model_weights_config.json"
CONSTANTS_CONFIG = f"{CONSTANTS_FOLDER}model_constants_config.json"
_SAMPLE_INPUTS = "data/sample_inputs/model.pt"
_PLAIN_ENTRIES = ("archive_format", "archive_version", "byteorder", ".data/version")

_WORD = re.compile(r"[\w.+:@-]*", re.ASCII)
_IDENTIFIER = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_RAW_TENSOR = re.compile(r"(weight|tensor)_\d+", re.ASCII)
_SYMBOL = re.compile(r"[a-z]+\d+", re.ASCII)
_OPERATOR = re.compile(
    r"torch\.ops\.aten\.(?P<aten>\w+)\.\w+"
    r"|torch\.ops\.(prims|quantized_decomposed)\.\w+\.\w+"
    r"|torch\.ops\.higher_order\.(wrap_with_set_grad_enabled|wrap_with_autocast|cond)"
    r"|(_operator|math)\.\w+"
    r"|torch\.(sym_\w+|_sym_\w+)",
    re.ASCII,
)
_FILE_OPERATORS = frozenset({"save", "from_file"})
_SYMBOLIC_NAMES = """
    Symbol Integer Float Rational Add Mul Pow Max Min Abs Mod Eq Ne Lt Le Gt Ge And Or Not
    Equality Unequality StrictLessThan LessThan StrictGreaterThan GreaterThan
    FloorDiv ModularIndexing Where PythonMod CleanDiv CeilToInt FloorToInt CeilDiv LShift RShift
    PowByNatural FloatPow FloatTrueDiv IntTrueDiv TruncToFloat TruncToInt RoundToInt RoundDecimal
    ToFloat Identity IsNonOverlappingAndDenseIndicator true false oo int_oo
"""
_SYMBOLIC_FUNCTIONS = frozenset(_SYMBOLIC_NAMES.split())
_SYMBOLIC_SYNTAX = (
    ast.Expression, ast.Call, ast.Name, ast.Load, ast.Constant, ast.keyword, ast.BinOp, ast.UnaryOp, ast.BoolOp,
    ast.Compare, ast.operator, ast.unaryop, ast.boolop, ast.cmpop,
)  # fmt: skip
_TREE_TYPES = ("builtins.tuple", "builtins.list", "builtins.dict", None)


def is_program(names: list[str]) -> bool:
    """Whether an archive's entries are those of an exported program."""
    inner = {name.partition("/")[2] for name in names}
    return bool(inner & {GRAPH, "archive_format"}) or "serialized_exported_program.json" in names


def checked_archive(data: bytes, where: str) -> bytes:
    """A new archive with nothing in it but the checked graph and raw tensors; `ModelError` says what is not."""
    with open_archive(data, where) as archive:
        names = archive.namelist()
        if "serialized_exported_program.json" in names:
            _refuse(where, "is of torch 2.7 or older, whose weights are pickled; export it with a newer torch.")
        folder = next((name.removesuffix(GRAPH) for name in names if name.endswith(f"/{GRAPH}")), None)
        compiled = [name for name in names if "/data/aotinductor/" in name or name.endswith((".so", ".dll"))]
        if compiled:
            _refuse(where, f"holds a compiled library ({compiled[0]}); export with torch.export.save instead.")
        if folder is None:
            _refuse(where, f"holds no exported program (no {GRAPH}).")
        entries = {name.removeprefix(folder): name for name in names if name.startswith(folder)}

        def read(name: str) -> bytes:
            return read_entry(archive, entries.get(name, f"{folder}{name}"), where)

        clean = {name: read(name) for name in _PLAIN_ENTRIES if name in entries}
        clean[GRAPH] = _json_bytes(_checked(_json(read(GRAPH), where), "", where))
        clean[_SAMPLE_INPUTS] = b""
        for config_name, subfolder in ((WEIGHTS_CONFIG, WEIGHTS_FOLDER), (CONSTANTS_CONFIG, CONSTANTS_FOLDER)):
            config = _json(read(config_name), where)
            clean[config_name] = _json_bytes(config)
            for path in sorted(_raw_tensor_paths(config, where)):
                clean[f"{subfolder}{path}"] = read(f"{subfolder}{path}")
    return _zip(clean)


def _refuse(where: str, what: str) -> Never:
    raise ModelError(f"{where} {what}.")


def _json(data: bytes, where: str) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{where} is damaged: its description cannot be read ({error}).") from error


def _json_bytes(value: object) -> bytes:
    return json.dumps(value).encode()


def _zip(entries: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, data in entries.items():
            archive.writestr(f"program/{name}", data)
    return buffer.getvalue()


def _raw_tensor_paths(config: Any, where: str) -> set[str]:
    """Names of the tensor files of a payload configuration, all of them raw bytes."""
    entries = config.get("config") if isinstance(config, dict) else None
    if not isinstance(entries, dict):
        _refuse(where, "is damaged: its table of tensors is missing.")
    paths = set()
    for name, entry in entries.items():
        path = entry.get("path_name") if isinstance(entry, dict) else None
        if not isinstance(path, str) or entry.get("use_pickle") or not _RAW_TENSOR.fullmatch(path):
            _refuse(where, f"holds {name!r} as a pickled object, which is not loaded; only plain tensors are.")
        paths.add(path)
    return paths


def _checked(value: Any, key: str, where: str) -> Any:
    """The same JSON value without what is not needed to run it; raises for strings of unknown kind."""
    if isinstance(value, dict):
        for name in value:
            if not _WORD.fullmatch(name):
                _refuse(where, f"names something {name[:60]!r}, which is no plain name.")
        if value.get("treespec_namedtuple_fields"):
            _refuse(where, "takes or returns named tuples; export it with tensors, tuples, lists or dicts.")
        return {name: _checked_entry(name, item, where) for name, item in value.items()}
    if isinstance(value, list):
        return [_checked(item, key, where) for item in value]
    if isinstance(value, str):
        _check_text(value, key, where)
    return value


def _checked_entry(name: str, item: Any, where: str) -> Any:
    if name == "metadata":
        return {}
    if name == "guards_code":
        return []
    return _checked(item, name, where)


def _check_text(text: str, key: str, where: str) -> None:
    if key == "as_string":
        return
    if key == "expr_str":
        _check_expression(text, where)
    elif key in ("in_spec", "out_spec"):
        _check_tree(text, where)
    elif key == "target":
        operator = _OPERATOR.fullmatch(text)
        if operator is None or operator["aten"] in _FILE_OPERATORS:
            _refuse(where, f"calls {text[:80]!r}, which is no tensor operation that is allowed here.")
    elif key in ("name", "as_name", "forward_arg_names") and text:
        if not _IDENTIFIER.fullmatch(text):
            _refuse(where, f"names something {text[:60]!r}, which is no plain name.")
    elif not _WORD.fullmatch(text):
        _refuse(where, f"holds the text {text[:60]!r} in {key!r}, which is no plain name.")


def _check_expression(text: str, where: str) -> None:
    """Sizes are arithmetic on symbols: no attribute, subscript, text or unknown function may be in them."""
    try:
        nodes = list(ast.walk(ast.parse(text, mode="eval")))
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ModelError(f"{where} holds a size that cannot be read, {text[:60]!r}.") from error
    for node in nodes:
        known = isinstance(node, _SYMBOLIC_SYNTAX)
        if isinstance(node, ast.Name):
            known = node.id in _SYMBOLIC_FUNCTIONS or bool(_SYMBOL.fullmatch(node.id))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            known = bool(_SYMBOL.fullmatch(node.value))
        elif isinstance(node, ast.Call):
            known = isinstance(node.func, ast.Name) and node.func.id in _SYMBOLIC_FUNCTIONS
        if not known:
            _refuse(where, f"holds a size that is more than arithmetic, {text[:60]!r}.")


def _check_tree(text: str, where: str) -> None:
    """Inputs and outputs are tensors in tuples, lists and dicts by plain names."""
    pending = [_json(text.encode(), where)]
    if not (isinstance(pending[0], list) and len(pending[0]) == 2 and pending[0][0] == 1):
        _refuse(where, "describes its inputs in an unknown way.")
    pending = [pending[0][1]]
    while pending:
        node = pending.pop()
        if not isinstance(node, dict) or node.get("type") not in _TREE_TYPES:
            kind = node.get("type") if isinstance(node, dict) else node
            _refuse(where, f"takes or returns a {kind!r}; export it with tensors, tuples, lists or dicts.")
        names = _json(str(node.get("context") or "null").encode(), where)
        plain = isinstance(names, list) and all(isinstance(n, str) and _IDENTIFIER.fullmatch(n) for n in names)
        if not (names is None or plain):
            _refuse(where, "has an input or output that has no plain name.")
        pending.extend(node.get("children_spec") or [])
