"""The small bugs that a tired engineer might make in a module, each as a change of its text.

Left alone are docstrings, type annotations, decorators, imports, assertions (`strict` of `zip` is one), texts of
messages and logs, `__repr__`, and in the report what is only its looks: module constants, texts, and `LOOKS`.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass

OPERATORS = {
    ast.Lt: ("<", "<="),
    ast.LtE: ("<=", "<"),
    ast.Gt: (">", ">="),
    ast.GtE: (">=", ">"),
    ast.Eq: ("==", "!="),
    ast.NotEq: ("!=", "=="),
    ast.Is: (r"\bis\b", "is not"),
    ast.IsNot: (r"\bis\s+not\b", "is"),
    ast.In: (r"\bin\b", "not in"),
    ast.NotIn: (r"\bnot\s+in\b", "in"),
    ast.And: (r"\band\b", "or"),
    ast.Or: (r"\bor\b", "and"),
    ast.Add: (r"\+", "-"),
    ast.Sub: ("-", "+"),
    ast.Mult: (r"\*", "/"),
    ast.Div: ("/", "*"),
    ast.FloorDiv: ("//", "*"),
    ast.Mod: ("%", "+"),
    ast.Pow: (r"\*\*", "*"),
}
OTHER_NAMES = {
    "asc": "desc",
    "desc": "asc",
    "min": "max",
    "max": "min",
    "any": "all",
    "all": "any",
    "startswith": "endswith",
    "endswith": "startswith",
    "ceil": "floor",
    "floor": "ceil",
}
CLAUSES = {"where", "filter", "and_", "or_", "order_by", "limit", "distinct", "join", "group_by"}
COMMUTE = {
    "where", "and_", "or_", "min", "max", "minimum", "maximum", "hypot", "isinstance", "isclose", "getattr", "cast",
    "partial",
}  # fmt: skip
CONVERSIONS = {
    "len", "str", "int", "float", "bool", "list", "tuple", "dict", "set", "type", "repr", "iter", "next", "range",
    "super",
}  # fmt: skip
"""Without these a call is not merely wrong, it fails at once."""
MESSAGES = re.compile(r"\w*(Error|Warning|Exception)|warn|warning|debug|info|print|echo")
LOOKS = {
    "align", "alt", "anchor", "automargin", "autorange", "bargap", "bgcolor", "bordercolor", "boxpoints",
    "caption", "choice", "cliponaxis", "color", "colorbar", "colorscale", "colour", "colours", "dash",
    "domain", "fill", "fillcolor", "fixedrange", "font", "gap", "gridcolor", "height", "hoverinfo",
    "hoverlabel", "hovermode", "hoverongaps", "jitter", "labels", "least_width", "legend", "legendgroup",
    "line", "linecolor", "margin", "marker", "mode", "opacity", "orientation", "outlinewidth", "pointpos",
    "range", "rangemode", "right", "shape", "showarrow", "showgrid", "showlegend", "showscale", "side",
    "size", "standoff", "subtitle", "symbol", "template", "textangle", "textfont", "textposition",
    "texttemplate", "thickness", "tickangle", "tickcolor", "tickfont", "tickmode", "ticks", "title",
    "traceorder", "visible", "width", "xanchor", "xgap", "xref", "xshift", "yanchor", "ygap", "yref",
    "yshift", "zeroline",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Mutant:
    """One small bug.

    Args:
        file: from the root.
        place: first and last line of the statement, or of its head if it has a body.
        inside: whether the statement stands in a function, and so runs when that is called.
        start, end: of the bytes that are replaced.
        text: what replaces them.
    """

    file: str
    place: tuple[int, int]
    inside: bool
    start: int
    end: int
    text: str

    def applied(self, source: bytes) -> bytes:
        """The module's text with the bug in it."""
        return source[: self.start] + self.text.encode() + source[self.end :]


def mutants_of(file: str, source: bytes) -> list[Mutant]:
    """All small bugs of a module, in the order of its text."""
    finder = _Finder(file, source)
    finder.visit(ast.parse(source))
    return sorted(finder.found.values(), key=lambda one: (one.start, one.end, one.text))


class _Finder(ast.NodeVisitor):
    def __init__(self, file: str, source: bytes) -> None:
        self.file, self.source = file, source
        self.report = file.startswith("search/report/")
        self.found: dict[tuple[int, int, str], Mutant] = {}
        self.begins = [0]
        for line in source.splitlines(keepends=True):
            self.begins.append(self.begins[-1] + len(line))
        self.place, self.functions = (1, 1), 0

    def span(self, node: ast.expr | ast.stmt | ast.keyword) -> tuple[int, int]:
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        return (
            self.begins[node.lineno - 1] + node.col_offset,
            self.begins[node.end_lineno - 1] + node.end_col_offset,
        )

    def text(self, node: ast.expr | ast.stmt) -> str:
        start, end = self.span(node)
        return self.source[start:end].decode()

    def put(self, span: tuple[int, int], text: str) -> None:
        mutant = Mutant(self.file, self.place, self.functions > 0, *span, text)
        changed = mutant.applied(self.source)
        try:
            compile(changed, self.file, "exec", ast.PyCF_ONLY_AST)
        except SyntaxError:
            return
        if changed != self.source:
            self.found.setdefault((*span, text), mutant)

    def put_between(self, left: ast.expr, right: ast.expr, operator: ast.AST) -> None:
        """Replace the operator that stands between two operands."""
        if type(operator) not in OPERATORS:
            return
        pattern, other = OPERATORS[type(operator)]
        start, end = self.span(left)[1], self.span(right)[0]
        between = re.sub(
            r"#.*", lambda comment: " " * len(comment[0]), self.source[start:end].decode("latin-1")
        )
        if match := re.search(pattern, between):
            self.put((start + match.start(), start + match.end()), other)

    def visit(self, node: ast.AST) -> None:
        if not isinstance(node, ast.stmt):
            super().visit(node)
            return
        before = self.place
        body = getattr(node, "body", None)
        last = node.end_lineno if not body else max(node.lineno, body[0].lineno - 1)
        self.place = (node.lineno, last or node.lineno)
        super().visit(node)
        self.place = before

    # What is left alone.

    def visit_Import(self, node: ast.Import) -> None:
        pass

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        pass

    def visit_Assert(self, node: ast.Assert) -> None:
        pass

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None and (self.functions or not self.report):
            self.visit(node.value)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        for statement in node.body:
            self.visit(statement)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        if node.name == "__repr__":
            return
        for default in (*node.args.defaults, *filter(None, node.args.kw_defaults)):
            self.visit(default)
        self.functions += 1
        for statement in node.body:
            self.visit(statement)
        self.functions -= 1

    # Statements.

    def visit_Expr(self, node: ast.Expr) -> None:
        if isinstance(node.value, ast.Constant):
            return
        if isinstance(node.value, ast.Call):
            if MESSAGES.fullmatch(_name(node.value.func)):
                return
            self.put(self.span(node), "pass")
        self.visit(node.value)

    def visit_Raise(self, node: ast.Raise) -> None:
        self.put(self.span(node), "pass")

    def visit_Continue(self, node: ast.Continue) -> None:
        self.put(self.span(node), "pass")

    def visit_Break(self, node: ast.Break) -> None:
        self.put(self.span(node), "pass")

    def visit_Delete(self, node: ast.Delete) -> None:
        self.put(self.span(node), "pass")

    def visit_Assign(self, node: ast.Assign) -> None:
        if self.report and (not self.functions or _names_looks(node.targets[0])):
            return
        if isinstance(node.targets[0], ast.Attribute | ast.Subscript):
            self.put(self.span(node), "pass")
        self.visit(node.value)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        if self.report and _are_looks(node.value):
            return
        self.put(self.span(node), "pass")
        self.put_between(node.target, node.value, node.op)
        self.visit(node.value)

    def visit_Return(self, node: ast.Return) -> None:
        if node.value is None:
            return
        if not isinstance(node.value, ast.Constant):
            self.put(self.span(node.value), "None")
        self.visit(node.value)

    def visit_While(self, node: ast.While) -> None:
        self.visit_If(node)

    def visit_If(self, node: ast.If | ast.While) -> None:
        text = self.text(node.test)
        if text in ("TYPE_CHECKING", '__name__ == "__main__"'):
            return
        self.condition(node.test)
        for statement in (*node.body, *node.orelse):
            self.visit(statement)

    # Expressions.

    def condition(self, test: ast.expr) -> None:
        if not isinstance(test, ast.Compare | ast.BoolOp | ast.UnaryOp | ast.Constant):
            self.put(self.span(test), f"not ({self.text(test)})")
        self.visit(test)

    def visit_IfExp(self, node: ast.IfExp) -> None:
        self.condition(node.test)
        self.visit(node.body)
        self.visit(node.orelse)

    def visit_comprehension(self, node: ast.comprehension) -> None:
        self.visit(node.iter)
        for test in node.ifs:
            self.condition(test)

    def visit_Compare(self, node: ast.Compare) -> None:
        operands = [node.left, *node.comparators]
        for left, right, operator in zip(operands, operands[1:], node.ops, strict=False):
            self.put_between(left, right, operator)
        self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        for left, right in zip(node.values, node.values[1:], strict=False):
            self.put_between(left, right, node.op)
        self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        if isinstance(node.op, ast.BitOr):
            if self.functions:
                self.put(self.span(node), self.text(node.left))
        elif not any(isinstance(side, TEXTS) for side in (node.left, node.right)):
            self.put_between(node.left, node.right, node.op)
        self.generic_visit(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        if isinstance(node.op, ast.Not):
            self.put(self.span(node), f"({self.text(node.operand)})")
        elif isinstance(node.op, ast.USub) and not isinstance(node.operand, ast.Constant):
            self.put(self.span(node), self.text(node.operand))
        self.generic_visit(node)

    def visit_Subscript(self, node: ast.Subscript) -> None:
        other = {"0": "-1", "-1": "0"}.get(self.text(node.slice))
        self.visit(node.value)
        if other is None:
            self.visit(node.slice)
        else:
            self.put(self.span(node.slice), other)

    def visit_Constant(self, node: ast.Constant) -> None:
        value, span = node.value, self.span(node)
        if isinstance(value, bool):
            self.put(span, str(not value))
        elif isinstance(value, int):
            self.put(span, str(value + 1))
        elif isinstance(value, float):
            self.put(span, repr(value * 2 if value else 1.0))
        elif isinstance(value, str) and re.fullmatch(r"[a-z_][a-z0-9_]*", value) and not self.report:
            text = self.text(node)
            self.put(span, f"{text[0]}xx{text[1:]}")

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        for part in node.values:
            if isinstance(part, ast.FormattedValue) and self.is_where_it_says(part.value):
                self.visit(part.value)

    def is_where_it_says(self, node: ast.expr) -> bool:
        """Python 3.11 may misplace what stands in an f-string."""
        try:
            return ast.dump(ast.parse(self.text(node), mode="eval").body) == ast.dump(node)
        except (SyntaxError, IndexError, UnicodeDecodeError):
            return False

    def visit_Dict(self, node: ast.Dict) -> None:
        for key, value in zip(node.keys, node.values, strict=True):
            if self.report and isinstance(key, ast.Constant) and key.value in LOOKS:
                continue
            if key is not None:
                self.visit(key)
            self.visit(value)

    def visit_Call(self, node: ast.Call) -> None:
        name = _name(node.func)
        if MESSAGES.fullmatch(name):
            return
        if name in OTHER_NAMES:
            end = self.span(node.func)[1]
            self.put((end - len(name), end), OTHER_NAMES[name])
        plain = not any(isinstance(argument, ast.Starred) for argument in node.args)
        if name in CLAUSES and isinstance(node.func, ast.Attribute) and not _is_text(node.func.value):
            self.put(self.span(node), self.text(node.func.value))
        if name in CLAUSES and len(node.args) > 1:
            self.drop(node.args)
        elif plain and name not in COMMUTE:
            for left, right in zip(node.args, node.args[1:], strict=False):
                self.swap(left, right)
        if len(node.args) == 1 and plain and not node.keywords and self.functions:
            own = isinstance(node.func, ast.Name) and name[0].islower() and name not in CONVERSIONS
            if own and not isinstance(node.args[0], ast.GeneratorExp):
                self.put(self.span(node), f"({self.text(node.args[0])})")
        given = [
            one
            for one in node.keywords
            if not (self.report and (one.arg in LOOKS or _are_looks(one.value))) and one.arg != "strict"
        ]
        for keyword in given:
            if keyword.arg is not None:
                self.drop([keyword])
        self.visit(node.func)
        for argument in node.args:
            self.visit(argument)
        for keyword in given:
            self.visit(keyword.value)

    def drop(self, arguments: list[ast.expr] | list[ast.keyword]) -> None:
        """Leave each argument out, with the comma after it."""
        for argument in arguments:
            start, end = self.span(argument)
            comma = re.match(rb"\s*,\s*", self.source[end:])
            self.put((start, end + (comma.end() if comma else 0)), "")

    def swap(self, left: ast.expr, right: ast.expr) -> None:
        if self.report and _is_text(left):
            return
        (start, left_end), (right_start, end) = self.span(left), self.span(right)
        between = self.source[left_end:right_start].decode()
        self.put((start, end), self.text(right) + between + self.text(left))


TEXTS = (ast.JoinedStr, ast.List, ast.Tuple, ast.Constant)


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))


def _names_looks(target: ast.expr) -> bool:
    return (
        isinstance(target, ast.Subscript)
        and isinstance(target.slice, ast.Constant)
        and target.slice.value in LOOKS
    )


def _are_looks(value: ast.expr) -> bool:
    """Whether a dictionary says nothing but looks."""
    return isinstance(value, ast.Dict) and all(
        isinstance(key, ast.Constant) and key.value in LOOKS for key in value.keys
    )


def _name(function: ast.expr) -> str:
    """The last word of what is called."""
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""
