"""Formulas as the docstrings of the cells write them, to LaTeX and on to MathML.

The notation is plain text with the field's symbols: `h_t = z_t ⊙ h_(t-1) + (1 - z_t) ⊙ n_t`. A line is read by a small
grammar, so that anything it does not know ends the build of the pages instead of being printed as it stands:

    line      = items relation value {relation value}
    value     = items ["where" condition {"and" condition}] ["," "else" value]
    condition = sum relation sum
    items     = sum {("," | ";") sum}
    sum       = ["-"] term {("+" | "-") term}
    term      = factor {["⊙" | "⊕" | "/" | "mod"] factor}
    factor    = (FUNCTION factor | "∂" factor | "√" group | group | stack | norm | SYMBOL | NUMBER) ["ᵀ"]
    group     = "(" items ")"
    stack     = "[" factor {["," | ";"] factor} "]" [scripts]
    norm      = "‖" items "‖" [scripts]

Two factors side by side are a product. A symbol is a letter or a Greek letter's name with primes, subscripts and
superscripts, `b'_n`, `h_(t-1)`, `U^(l)`, or `…`. A fraction is what stands on both sides of `/`. Σ and Π are symbols
whose scripts are their bounds, `Σ_(t=1)^T`. No norm stands in another.
"""

import re
from collections.abc import Iterable

from latex2mathml.converter import convert

FUNCTIONS = {
    "tanh": r"\tanh",
    "exp": r"\exp",
    "log": r"\log",
    "max": r"\max",
    "min": r"\min",
    "σ": r"\sigma",
    "ReLU": r"\text{ReLU}",
    "norm": r"\text{norm}",
    "diag": r"\text{diag}",
    "sign": r"\text{sign}",
    "LSTM": r"\text{LSTM}",
    "softmax": r"\text{softmax}",
}
"""Functions with a name of their own; any symbol before a bracket is one too, `f(z_t)`."""

GREEK = {
    **{
        "nu": r"\nu",
        "α": r"\alpha",
        "β": r"\beta",
        "γ": r"\gamma",
        "δ": r"\delta",
        "ε": r"\varepsilon",
        "θ": r"\theta",
    },
    **{"λ": r"\lambda", "τ": r"\tau"},
}
OVER_STEPS = {"Σ": r"\sum", "Π": r"\prod"}
WORDS = {"cycle": r"\text{cycle}"}
RELATIONS = {"=": "=", "≠": r"\neq", "≤": r"\le", ">": ">"}
PRODUCTS = {"⊙": r"\odot", "⊕": r"\oplus", "mod": r"\bmod"}
ACCENTS = {"ŷ": r"\hat{y}"}

TOKEN = re.compile(
    r"""\s*(?:
        (?P<number> \d+(?:\.\d+)? )
      | (?P<symbol> … | (?:[^\W\d_ᵀ]+) '* (?: [_^] (?: [^\Wᵀ]+?(?=[_^ᵀ]|\b) | \([^()]*\) ) )* )
      | (?P<scripts> (?: [_^] (?: [^\Wᵀ]+ | \([^()]*\) ) )+ )
      | (?P<sign> [=≠≤>+\-⊙⊕/√∂‖ᵀ()\[\],;] )
    )""",
    re.VERBOSE,
)
SCRIPT = re.compile(r"([_^])(?:\(([^()]*)\)|([^_^()]+))")
RESERVED = {"mod", "where", "and", "else"}


class FormulaError(ValueError):
    """A formula that is not in the notation, or a name in it that is not known."""


def latex(line: str) -> str:
    """One line of a formula in LaTeX.

    Raises:
        FormulaError: It is not in the notation above; the message has the line and the place.
    """
    return _Reader(line).line()


def mathml(line: str) -> str:
    """One line of a formula as a MathML element.

    Raises:
        FormulaError: It is not in the notation above.
    """
    return convert(latex(line))


def block(lines: Iterable[str]) -> str:
    """A formula of several lines as an HTML block."""
    rows = "".join(f"<div>{mathml(line)}</div>" for line in lines)
    return f'<div class="formula">{rows}</div>'


class _Reader:
    """Reads one line from left to right, a method for each rule of the grammar; each returns LaTeX."""

    def __init__(self, line: str) -> None:
        self.text, self.at, self.in_norm = line, 0, False
        self.tokens: list[tuple[str, str, int]] = []
        position = 0
        end = len(line.rstrip())
        while position < end:
            found = TOKEN.match(line, position)
            if found is None:
                raise FormulaError(f"{line!r}: {line[position:].strip()[0]!r} is not part of the notation")
            kind = found.lastgroup
            assert kind is not None
            self.tokens.append((kind, found[kind], found.start(kind)))
            position = found.end()

    # --- where the reader stands

    @property
    def next(self) -> str:
        """The token that comes next; empty at the end."""
        return self.tokens[self.at][1] if self.at < len(self.tokens) else ""

    @property
    def kind(self) -> str:
        return self.tokens[self.at][0] if self.at < len(self.tokens) else "end"

    def take(self, expected: str = "") -> str:
        """Pass the next token, which must be the one expected where one is."""
        if not self.next or (expected and self.next != expected):
            self.fail(repr(expected) if expected else "more")
        token = self.next
        self.at += 1
        return token

    def fail(self, expected: str) -> None:
        """Raise the error of this line and place."""
        found = f"{self.next!r} at character {self.tokens[self.at][2] + 1}" if self.next else "the end"
        raise FormulaError(f"{self.text!r}: {expected} is expected, but {found} is found")

    # --- the rules

    def line(self) -> str:
        parts = [self.items()]
        if self.next not in RELATIONS:
            self.fail("a relation such as '='")
        while self.next in RELATIONS:
            parts += [RELATIONS[self.take()], self.value()]
        if self.next:
            self.fail("the end")
        return " ".join(parts)

    def value(self) -> str:
        text = self.items(stop="else")
        if self.next == "where":
            self.take()
            conditions = [self.condition()]
            while self.next == "and":
                self.take()
                conditions.append(self.condition())
            text += r" \quad \text{where } " + r" \text{ and } ".join(conditions)
        if self.next == ",":
            self.take(",")
            self.take("else")
            text += r", \quad \text{else } " + self.value()
        return text

    def condition(self) -> str:
        left = self.sum()
        if self.next not in RELATIONS:
            self.fail("a relation such as '='")
        return f"{left} {RELATIONS[self.take()]} {self.sum()}"

    def items(self, stop: str = "") -> str:
        text = self.sum()
        while self.next in (",", ";"):
            if stop and self.at + 1 < len(self.tokens) and self.tokens[self.at + 1][1] == stop:
                break
            text += rf"{self.take()} \, {self.sum()}"
        return text

    def sum(self) -> str:
        text = f"{self.take() if self.next == '-' else ''}{self.term()}"
        while self.next in ("+", "-"):
            text += f" {self.take()} {self.term()}"
        return text

    def term(self) -> str:
        parts = [self.factor()]
        while True:
            if self.next == "/":
                self.take()
                above = parts.pop()
                parts.append(rf"\dfrac{{{_bare(above)}}}{{{_bare(self.factor())}}}")
            elif self.next in PRODUCTS:
                parts += [PRODUCTS[self.take()], self.factor()]
            elif self.begins_factor():
                parts.append(self.factor())
            else:
                return " ".join(parts)

    def begins_factor(self) -> bool:
        if self.kind == "symbol":
            return self.next not in RESERVED
        return self.kind == "number" or self.next in ("√", "∂", "(", "[") or (self.next == "‖" and not self.in_norm)

    def factor(self) -> str:
        text = self.untransposed()
        if self.next == "ᵀ":
            self.take()
            text += r"^{\text{T}}"
        return text

    def untransposed(self) -> str:
        if not self.begins_factor():
            self.fail("a symbol, a number or a bracket")
        if self.kind == "number":
            return self.take()
        if self.next == "√":
            self.take()
            return rf"\sqrt{{{_bare(self.group())}}}"
        if self.next == "∂":
            self.take()
            return rf"\partial {self.untransposed()}"
        if self.next == "(":
            return self.group()
        if self.next == "[":
            return self.stack()
        if self.next == "‖":
            return self.norm()
        if self.next in FUNCTIONS:
            name = FUNCTIONS[self.take()]
            if not self.begins_factor():
                self.fail("what the function is of")
            return f"{name} {self.factor()}" if self.next == "(" else rf"{name} \, {self.factor()}"
        return self.symbol(self.take())

    def group(self) -> str:
        self.take("(")
        text = self.items()
        self.take(")")
        return f"( {text} )"

    def stack(self) -> str:
        """Values side by side in square brackets: `[r z]_(z)`, `[h_t^(1); h_t^(2)]`."""
        self.take("[")
        parts = [self.factor()]
        while self.next != "]":
            parts.append(rf"{self.take()} \, {self.factor()}" if self.next in (",", ";") else rf"\; {self.factor()}")
        self.take("]")
        scripts = self.scripts(self.take()) if self.kind == "scripts" else ""
        return f"[ {' '.join(parts)} ]{scripts}"

    def norm(self) -> str:
        self.take("‖")
        self.in_norm = True
        text = self.items()
        self.in_norm = False
        self.take("‖")
        scripts = self.scripts(self.take()) if self.kind == "scripts" else ""
        return rf"\| {text} \|{scripts}"

    def symbol(self, token: str) -> str:
        if token == "…":
            return r"\dots"
        found = re.match(r"[^\W\d_ᵀ]+", token)
        assert found is not None
        name = found[0]
        rest = token[len(name) :]
        primes = rest[: len(rest) - len(rest.lstrip("'"))]
        if name in OVER_STEPS and not primes:
            return OVER_STEPS[name] + self.scripts(rest, bounds=True)
        known = GREEK | WORDS | ACCENTS
        if name not in known and not re.fullmatch(r"[A-Za-z]", name):
            raise FormulaError(f"{self.text!r}: {name!r} is no known function, word or symbol")
        return known.get(name, name) + primes + self.scripts(rest[len(primes) :])

    def scripts(self, text: str, bounds: bool = False) -> str:
        done = {}
        for which, inside, plain in SCRIPT.findall(text):
            if which in done:
                raise FormulaError(f"{self.text!r}: {text!r} has two scripts in one place")
            if plain:
                done[which] = plain if len(plain) == 1 or plain.isdecimal() else rf"\text{{{plain}}}"
            else:
                reader = _Reader(inside)
                done[which] = reader.items()
                if bounds and reader.next in RELATIONS:
                    done[which] += f" {RELATIONS[reader.take()]} {reader.sum()}"
                if reader.next:
                    reader.fail("the end")
                if which == "^" and not bounds:
                    done[which] = f"({done[which]})"
        return "".join(f"{which}{{{inside}}}" for which, inside in sorted(done.items(), reverse=True))


def _bare(factor: str) -> str:
    """A factor without its brackets, which a fraction or a root makes needless."""
    return factor.removeprefix("( ").removesuffix(" )") if factor.startswith("( ") else factor
