"""The tests themselves: no statement that only looks like an assertion, no test that ends early."""

import ast
from pathlib import Path

import pytest

FILES = sorted(Path(__file__).parent.glob("*.py"))
MOST_LINES = 600
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
WITH_EFFECT = (ast.Call, ast.Await, ast.Yield, ast.YieldFrom)


def docstrings(tree):
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, *FUNCTIONS)) and ast.get_docstring(node):
            yield node.body[0]


def statements_without_effect(tree):
    """Lines of expressions that stand as statements, and neither call, wait nor yield.

    A comparison, alone or in a conditional expression, is an assertion that never fails.
    """
    statements = {node for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for statement in statements - set(docstrings(tree)):
        if not isinstance(statement.value, WITH_EFFECT):
            yield statement.lineno


def own_statements(function):
    """What runs when a function is called, without the functions that it defines."""
    todo = list(function.body)
    while todo:
        node = todo.pop()
        yield node
        if not isinstance(node, (*FUNCTIONS, ast.ClassDef, ast.Lambda)):
            todo += ast.iter_child_nodes(node)


def early_returns(tree):
    """Lines of `return` in a test: it skips assertions silently, where a skip would be counted."""
    for node in ast.walk(tree):
        if isinstance(node, FUNCTIONS) and node.name.startswith("test"):
            for statement in own_statements(node):
                if isinstance(statement, ast.Return):
                    yield statement.lineno


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_statement_has_an_effect(path):
    assert list(statements_without_effect(ast.parse(path.read_text()))) == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_no_test_ends_early(path):
    assert list(early_returns(ast.parse(path.read_text()))) == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_files_are_short(path):
    assert len(path.read_text().splitlines()) <= MOST_LINES


@pytest.mark.parametrize(
    "statement",
    [
        "a == b",
        "check(a) if a else a == b",
        "check(a) if a else check(b)",
        "a and check(a)",
        "not a",
        "a, b == c",
        "[check(a) for a in b]",
        "lambda: check(a)",
        "a.b",
        "'text'",
        "...",
    ],
)
def test_statements_without_effect_are_found(statement):
    tree = ast.parse(f"def test_it(a):\n    '''Text.'''\n    check(a)\n    {statement}\n")
    assert list(statements_without_effect(tree)) == [4]


@pytest.mark.parametrize("statement", ["check(a)", "await a", "yield a", "yield from a", "b = a"])
def test_statements_with_an_effect_are_not(statement):
    tree = ast.parse(f"'''Text.'''\nasync def f(a):\n    '''Text.'''\n    {statement}\n")
    assert list(statements_without_effect(tree)) == []


@pytest.mark.parametrize(
    ("body", "lines"),
    [
        ("if a:\n        return\n    assert a", [3]),
        ("for b in a:\n        with b:\n            return b", [4]),
        ("def f():\n        return a\n    assert f()", []),
        ("class C:\n        def f(self):\n            return a\n    assert C().f()", []),
        ("assert (lambda: a)()", []),
    ],
)
def test_early_returns_are_found(body, lines):
    assert list(early_returns(ast.parse(f"def test_it(a):\n    {body}\n"))) == lines
    assert list(early_returns(ast.parse(f"def helper(a):\n    {body}\n"))) == []
