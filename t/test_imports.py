"""The parts of lib/cspool and what each may import. A failure names the broken rule and its reason."""

import ast
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parent.parent
LIB = TOP / "lib"

RULES = [
    # (part, what its modules must not import, why)
    (
        "cspool.spool",
        ("cspool.keys", "cspool.record", "cspool.command", "cspool.mail", "cspool.database", "cspool.imap"),
        "the operator's side must not be able to read a record",
    ),
    (
        "cspool.imap",
        ("cspool.spool", "cspool.record", "cspool.frame", "cspool.database.replay", "cspool.database.loading"),
        "cspool-imapd knows the database and neither the log nor how it is sealed",
    ),
    ("cspool.database", ("cspool.imap",), "the database does not know who reads it"),
]
# (part, all of cspool that its modules may import, why)
CLOSED = [
    (
        "cspool.mail",
        ("cspool.mail", "cspool.octets", "cspool.errors"),
        "a message is read without regard to where it is",
    ),
    ("cspool.errors", (), "everything stands on it"),
    ("cspool.octets", (), "everything stands on it"),
]


def module_of(path):
    """Return the name of the module in a file; that of a package is its directory."""
    parts = path.relative_to(LIB).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for path in sorted((LIB / "cspool").rglob("*.py"))}


def imports(module):
    """Return the modules of cspool that this one imports anywhere, also under TYPE_CHECKING."""
    path = MODULES[module]
    package = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            origin = ".".join([*base, *([node.module] if node.module else [])])
            for name in node.names:
                full = f"{origin}.{name.name}"
                found.add(full if full in MODULES else origin)
    return {name for name in found if name in MODULES} - {module, "cspool"}


IMPORTS = {module: imports(module) for module in MODULES}


def inside(module, room):
    return module == room or module.startswith(room + ".")


def broken(room, why, may):
    """Return a line for each import that a module of a room may not have; `may` says whether it may."""
    return "\n".join(
        f"{module} imports {other}: {why}"
        for module in MODULES
        if inside(module, room)
        for other in sorted(IMPORTS[module])
        if not may(other)
    )


@pytest.mark.parametrize(("room", "barred", "why"), RULES)
def test_what_a_room_may_not_import(room, barred, why):
    assert not broken(room, why, lambda other: not any(inside(other, one) for one in barred))


@pytest.mark.parametrize(("room", "allowed", "why"), CLOSED)
def test_all_that_a_room_may_import(room, allowed, why):
    assert not broken(room, why, lambda other: any(inside(other, one) for one in allowed))


def test_no_circle():
    """The modules can be ordered so that each follows all that it imports."""
    left = {module: set(others) for module, others in IMPORTS.items()}
    while free := {module for module, others in left.items() if not others & left.keys()}:
        for module in free:
            del left[module]
    circle = [f"{module} imports {other}" for module in left for other in sorted(left[module] & left.keys())]
    assert not circle, "these import each other:\n" + "\n".join(circle)


def test_no_module_imports_a_tool():
    """A tool is run, not imported, and modules must not load it by importlib either."""
    tools = {path.name.replace("-", "_") for path in (TOP / "bin").iterdir()}
    for module, path in MODULES.items():
        names = {
            name
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Import | ast.ImportFrom)
            for name in [getattr(node, "module", None) or "", *(one.name for one in node.names)]
        }
        assert not {name for name in names if name.replace("-", "_") in tools or "importlib" in name}, module


def test_the_rules_see_what_is_there():
    """A rule about a part that has been renamed would never fail."""
    named = {name for room, others, _ in RULES + CLOSED for name in (room, *others)}
    assert named <= set(MODULES)
    assert IMPORTS["cspool.spool.append"] >= {"cspool.disk", "cspool.frame", "cspool.spool.files"}
    assert "cspool.database.view" in IMPORTS["cspool.imap.session"]
