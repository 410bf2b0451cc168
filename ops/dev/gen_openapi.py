# Writes Node/Relay/Api/OpenApiText.swift from Proto/openapi/token.yaml, so that the node serves the
# description it was built with. Run from the repository root (ops/dev/regen does).
text = open("Proto/openapi/token.yaml").read()
assert '"""###' not in text and "\\###" not in text
out = (
    "// swift-format-ignore-file\n"
    "// Generated from Proto/openapi/token.yaml by ops/dev/regen. Do not edit.\n\n"
    "/// The description of the token API, as served at `/openapi.yaml`.\n"
    'let openApiText = ###"""\n' + text + '\n"""###\n'
)
open("Node/Relay/Api/OpenApiText.swift", "w").write(out)
