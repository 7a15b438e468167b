"""Alloy's configuration: whether it is one, whether its components have these arguments, and whether what they refer to is there."""
import re
from dataclasses import dataclass, field

import yaml

from world import ROOT

HERE = ROOT / "k8s/check/alloy.yaml"
LOGGING = ROOT / "k8s/platform/logging"
TOKEN = re.compile(
    r"""(?P<skip>[ \t\r\n]+|//[^\n]*|/\*.*?\*/)|(?P<text>"(?:\\.|[^"\\\n])*")|(?P<number>\d+(?:\.\d+)?)|(?P<name>[A-Za-z_]\w*)|(?P<sign>[{}()\[\],.=+])""",
    re.S,
)


class Wrong(Exception):
    pass


@dataclass
class Block:
    kind: str
    label: str
    line: int
    attributes: dict = field(default_factory=dict)
    blocks: list = field(default_factory=list)


class Parser:
    def __init__(self, text):
        self.tokens, at = [], 0
        while at < len(text):
            found = TOKEN.match(text, at)
            if not found:
                raise Wrong(f"line {text.count(chr(10), 0, at) + 1}: {text[at:at + 20]!r} is nothing that Alloy knows")
            if found.lastgroup != "skip":
                self.tokens.append((found.lastgroup, found.group(), text.count("\n", 0, at) + 1))
            at = found.end()
        self.tokens.append(("end", "the end", text.count("\n") + 1))
        self.at = 0
        # references and calls: (line, dotted name)
        self.references, self.calls = [], []

    def peek(self):
        return self.tokens[self.at]

    def take(self, kind, text=None):
        got, said, line = self.peek()
        if got != kind or (text is not None and said != text):
            raise Wrong(f"line {line}: {said} where {text or kind} belongs")
        self.at += 1
        return said

    def accept(self, text):
        if self.peek()[0] == "sign" and self.peek()[1] == text:
            self.at += 1
            return True
        return False

    def dotted(self):
        parts = [self.take("name")]
        while self.accept("."):
            parts.append(self.take("name"))
        return ".".join(parts)

    def body(self, into, until):
        while self.peek()[:2] != until:
            line = self.peek()[2]
            name = self.dotted()
            if self.accept("="):
                if name in into.attributes:
                    raise Wrong(f"line {line}: {name} twice")
                into.attributes[name] = line
                self.expression()
            else:
                label = self.take("text")[1:-1] if self.peek()[0] == "text" else ""
                inner = Block(name, label, line)
                self.take("sign", "{")
                self.body(inner, ("sign", "}"))
                self.take("sign", "}")
                into.blocks.append(inner)

    def listed(self, close, item):
        while not self.accept(close):
            item()
            if not self.accept(","):
                self.take("sign", close)
                return

    def pair(self):
        self.take("text" if self.peek()[0] == "text" else "name")
        self.take("sign", "=")
        self.expression()

    def expression(self):
        kind, said, line = self.peek()
        if kind in ("text", "number"):
            self.at += 1
        elif self.accept("["):
            self.listed("]", self.expression)
        elif self.accept("{"):
            self.listed("}", self.pair)
        else:
            name = self.dotted()
            if self.accept("("):
                self.calls.append((line, name))
                self.listed(")", self.expression)
            elif name not in ("true", "false", "null"):
                self.references.append((line, name))
        if self.accept("+"):
            self.expression()


def fits(block, known, at=""):
    """A block's arguments and inner blocks, against what is known of it."""
    where = f"line {block.line}: {at}{block.kind}"
    needs, may = set(known.get("needs", ())), set(known.get("may", ()))
    yield from sorted(f"{where} has no argument {a}" for a in set(block.attributes) - needs - may)
    yield from sorted(f"{where} lacks {a}" for a in needs - set(block.attributes))
    for inner in block.blocks:
        if inner.kind not in known.get("blocks", {}):
            yield f"line {inner.line}: {block.kind} has no block {inner.kind}"
        else:
            yield from fits(inner, known["blocks"][inner.kind], f"{block.kind}.")


def problems(text, table):
    parser, root = Parser(text), Block("", "", 0)
    try:
        parser.body(root, ("end", "the end"))
    except Wrong as wrong:
        yield str(wrong)
        return
    components = table["components"]
    exported = set()
    for block in root.blocks:
        if block.kind not in components:
            yield f"line {block.line}: {block.kind} is not in k8s/check/alloy.yaml"
            continue
        yield from fits(block, components[block.kind])
        names = {f"{block.kind}.{block.label}.{e}" for e in components[block.kind].get("exports", ())}
        if names & exported or not block.label:
            yield f"line {block.line}: {block.kind} {block.label or 'without a label'} twice"
        exported |= names
    yield from (f"line {line}: {name} refers to nothing" for line, name in parser.references if name not in exported)
    yield from (f"line {line}: there is no function {name}" for line, name in parser.calls if name not in table["functions"])


def checked(text, table):
    try:
        return list(problems(text, table))
    except Wrong as wrong:
        return [str(wrong)]


def every():
    table = yaml.safe_load(HERE.read_text())
    texts = {p.name: p.read_text() for p in sorted(LOGGING.glob("*.alloy"))}
    for name, text in texts.items():
        yield f"{name} is one that Alloy takes", checked(text, table)
    collector = texts["collector.alloy"]
    for what, old, new in (
        ("a brace that is missing", "\n}\n", "\n"),
        ("a misspelt argument", "group_id ", "group "),
        ("an argument that has to be there", "  topics ", "  // topics "),
        ("a receiver that is not there", "loki.write.loki.receiver", "loki.write.other.receiver"),
        ("a component nobody looked up", "loki.source.kafka", "loki.source.kafak"),
    ):
        if old not in collector:
            raise SystemExit(f"k8s-check: collector.alloy has no {old!r}")
        yield f"teeth: Alloy, {what}", [] if checked(collector.replace(old, new, 1), table) else ["nothing found"]
