"""The azurerm schema, read out of the npm package @cdktf/provider-azurerm, which is generated from it.

Where the real provider cannot be had this is as near as one gets: names, types, required or not, lists or sets, and what
only the provider knows ("computed"). It does not know which optional argument is computed too, nor allowed values.
"""
import os
import re

ENTRY = re.compile(
    r"^\s+(\w+): \{\s*value: (.*?),\s*isBlock: (true|false),\s*type: \"(\w+)\",\s*storageClassType: \"(\w+)\",\s*\},$",
    re.M | re.S,
)
FIELD = re.compile(r"^    readonly (\w+)(\??): ", re.M)
GETTER = re.compile(r"return (?:cdktf\.Fn\.tolist\()?this\.get(String|Number|Boolean|List|StringMap|NumberMap|BooleanMap|NumberList)Attribute\('(\w+)'\)")
PART = re.compile(r"this\._\w+ = new (\w+?)(List|Map|OutputReference|)\(this, \"(\w+)\"(?:, (?:true|false))?\);")
SIMPLE = {"string": "string", "number": "number", "boolean": "bool", "any": "string"}
GOT = {"String": "string", "Number": "number", "Boolean": "bool", "List": ["list", "string"], "NumberList": ["list", "number"],
       "StringMap": ["map", "string"], "NumberMap": ["map", "number"], "BooleanMap": ["map", "bool"]}


class Block:
    """attributes: name -> (type, required, computed); blocks: name -> (Block, nesting, required)."""

    def __init__(self):
        self.attributes, self.blocks = {}, {}


def kebab(name):
    return name.replace("_", "-")


def camel(name):
    first, *rest = name.split("_")
    return first + "".join(part[:1].upper() + part[1:] for part in rest)


class Source:
    """One resource's file of the package."""

    def __init__(self, folder):
        with open(os.path.join(folder, "index.js")) as file:
            self.code = file.read().split("\n//# sourceMappingURL")[0]
        with open(os.path.join(folder, "index.d.ts")) as file:
            declared = file.read()
        self.interfaces = {m.group(1): m.group(2) for m in re.finditer(r"export interface (\w+)[^{]*\{(.*?)\n\}", declared, re.S)}
        self.classes = {m.group(1): m.group(2) for m in re.finditer(r"^class (\w+) extends [\w.]+ \{(.*?)^\}", self.code, re.M | re.S)}
        self.functions = {m.group(1): m.group(2) for m in re.finditer(r"^function (\w+)ToHclTerraform\(struct\) \{(.*?)^\}", self.code, re.M | re.S)}
        self.main = re.search(r"^class (\w+) extends cdktf\.Terraform(?:Resource|DataSource|Provider) ", self.code, re.M).group(1)

    def root(self):
        return self.block(self.classes[self.main], self.interfaces[self.main + "Config"], self.classes[self.main])

    def block(self, synthesis, interface, outputs):
        found = Block()
        required = {name for name, optional in FIELD.findall(interface) if not optional}
        for name, value, is_block, kind, storage in ENTRY.findall(synthesis):
            if name in ("provider", "alias"):
                continue
            wanted = camel(name) in required
            if is_block == "true":
                nested = re.search(r"(\w+)ToHclTerraform", value).group(1)
                whole = nested[0].upper() + nested[1:]
                inner = self.block(self.functions[nested], self.interfaces[whole], self.classes.get(whole + "OutputReference", ""))
                if name == "timeouts":
                    found.blocks[name] = (inner, "single", False)
                elif re.search(rf"\* {name} block\n(?:(?!readonly).)*readonly {camel(name)}\??:", interface, re.S):
                    found.blocks[name] = (inner, kind, wanted)
                else:
                    # An attribute that may be written as a block; the provider fills it in when it is left out.
                    found.attributes[name] = ([kind, self.object_of(whole)], wanted, not wanted)
            else:
                found.attributes[name] = (self.type_of(kind, storage), wanted, False)
        for got, name in GETTER.findall(outputs):
            if name not in found.attributes and name not in found.blocks:
                found.attributes[name] = (GOT[got], False, True)
        for nested, _, name in PART.findall(outputs):
            if name not in found.attributes and name not in found.blocks and nested + "OutputReference" in self.classes:
                found.attributes[name] = (["list", self.object_of(nested)], False, True)
        if "id" in found.attributes:
            found.attributes["id"] = ("string", False, True)
        return found

    def object_of(self, nested):
        """The type of a list that the provider fills in."""
        outputs = self.classes[nested + "OutputReference"]
        fields = {name: GOT[got] for got, name in GETTER.findall(outputs)}
        for inner, _, name in PART.findall(outputs):
            if name not in fields and inner + "OutputReference" in self.classes:
                fields[name] = ["list", self.object_of(inner)]
        return ["object", fields]

    @staticmethod
    def type_of(kind, storage):
        if kind == "simple":
            return SIMPLE[storage]
        inner = re.sub(r"(List|Map)$", "", storage)
        return [kind, SIMPLE.get(inner, "string")]


def resource(package, name):
    """The schema of azurerm_NAME, or None when azurerm has no such resource."""
    folder = os.path.join(package, "lib", kebab(name))
    return Source(folder).root() if os.path.isdir(folder) else None


def data_source(package, name):
    return resource(package, f"data_azurerm_{name}")


def provider(package):
    return Source(os.path.join(package, "lib", "provider")).root()


def used(folder):
    """The resource and data source types that the Terraform files under a folder name."""
    resources, data = set(), set()
    for base, _, files in os.walk(folder):
        for file in files:
            if file.endswith(".tf"):
                with open(os.path.join(base, file)) as text:
                    content = text.read()
                resources.update(re.findall(r'^resource "azurerm_(\w+)"', content, re.M))
                data.update(re.findall(r'^data "azurerm_(\w+)"', content, re.M))
    return resources, data
