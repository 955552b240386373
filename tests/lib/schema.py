# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""As much of JSON Schema as docs/control.schema.json uses."""

TYPES = {"object": dict, "array": list, "string": str, "boolean": bool, "null": type(None),
         "number": (int, float), "integer": int}
KNOWN = {"$schema", "$id", "$ref", "$defs", "title", "type", "enum", "const", "properties",
         "required", "additionalProperties", "propertyNames", "maxProperties", "items", "minItems",
         "maxItems", "minLength", "minimum", "maximum", "oneOf", "anyOf", "allOf", "if", "then"}


def is_type(value, name):
    if isinstance(value, bool):
        return name == "boolean"
    return isinstance(value, TYPES[name])


class Schema:
    """check() raises ValueError with the place of the first mismatch."""

    def __init__(self, root):
        self.root = root

    def resolve(self, ref):
        node = self.root
        for part in ref.removeprefix("#/").split("/"):
            node = node[part]
        return node

    def fits(self, value, schema):
        try:
            self.check(value, schema)
        except ValueError:
            return False
        return True

    def check(self, value, schema=None, where="$"):
        schema = self.root if schema is None else schema
        if schema is True:
            return
        if schema is False:
            raise ValueError(f"{where}: may not be there")
        assert set(schema) <= KNOWN, set(schema) - KNOWN
        if "$ref" in schema:
            self.check(value, self.resolve(schema["$ref"]), where)
        self.check_value(value, schema, where)
        self.check_combined(value, schema, where)
        if isinstance(value, dict):
            self.check_object(value, schema, where)
        if isinstance(value, list):
            for number, item in enumerate(value):
                self.check(item, schema.get("items", True), f"{where}[{number}]")

    @staticmethod
    def check_value(value, schema, where):
        types = schema.get("type", [])
        types = [types] if isinstance(types, str) else types
        rules = [
            (not types or any(is_type(value, name) for name in types), f"no {types}"),
            (value in schema.get("enum", [value]), "not one of the enumeration"),
            (value == schema.get("const", value), "another value"),
        ]
        if is_type(value, "number"):
            rules.append((schema.get("minimum", value) <= value <= schema.get("maximum", value),
                          "out of range"))
        if isinstance(value, (str, list)):
            low = schema.get("minLength" if isinstance(value, str) else "minItems", 0)
            rules.append((low <= len(value) <= schema.get("maxItems", len(value)), "bad length"))
        for holds, text in rules:
            if not holds:
                raise ValueError(f"{where}: {text}: {value!r:.200}")

    def check_combined(self, value, schema, where):
        for part in schema.get("allOf", []):
            self.check(value, part, where)
        for name, counts in (("anyOf", range(1, 99)), ("oneOf", (1,))):
            parts = schema.get(name)
            if parts and sum(self.fits(value, part) for part in parts) not in counts:
                raise ValueError(f"{where}: {name} does not hold: {value!r:.300}")
        if "if" in schema and self.fits(value, schema["if"]):
            self.check(value, schema["then"], where)

    def check_object(self, value, schema, where):
        missing = set(schema.get("required", [])) - set(value)
        if missing:
            raise ValueError(f"{where}: without {missing}")
        if len(value) > schema.get("maxProperties", len(value)):
            raise ValueError(f"{where}: too many members")
        properties = schema.get("properties", {})
        for key, member in value.items():
            self.check(key, schema.get("propertyNames", True), f"{where}.{key}")
            self.check(member, properties.get(key, schema.get("additionalProperties", True)),
                       f"{where}.{key}")
