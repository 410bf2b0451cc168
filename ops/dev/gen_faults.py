#!/usr/bin/env python3
"""Writes Base/Base/FaultCode.swift from Proto/errors.json. Run from the repository root (ops/dev/regen does)."""

import json

KEYWORDS = {"internal"}


def camel(words: str) -> str:
    first, *rest = words.lower().split("_")
    name = first + "".join(word.title() for word in rest)
    return f"`{name}`" if name in KEYWORDS else name


def table(rows: list, name: str, kind: str, value) -> list:
    out = [f"  public var {name}: {kind} {{", "    switch self {"]
    out += [f"    case .{camel(row['code'])}: {value(row)}" for row in rows]
    return out + ["    }", "  }"]


def main() -> None:
    with open("Proto/errors.json", encoding="utf-8") as file:
        rows = json.load(file)
    out = [
        "// Generated from Proto/errors.json by ops/dev/regen. Do not edit.",
        "// swift-format-ignore-file",
        "",
        "/// Every fault a user can see.",
        "public enum FaultCode: String, Sendable, CaseIterable {",
    ]
    out += [f"  case {camel(row['code'])} = \"{row['code']}\"" for row in rows]
    out.append("")
    out += table(rows, "grpc", "GrpcStatus", lambda row: "." + camel(row["grpc"]).strip("`"))
    out += table(rows, "http", "Int", lambda row: str(row["http"]))
    out += table(rows, "isRetriable", "Bool", lambda row: str(row["retriable"]).lower())
    out += table(rows, "what", "String", lambda row: json.dumps(row["what"]))
    out += table(rows, "advice", "String", lambda row: json.dumps(row["do"]))
    out.append("}")
    with open("Base/Base/FaultCode.swift", "w", encoding="utf-8") as file:
        file.write("\n".join(out) + "\n")


if __name__ == "__main__":
    main()
