"""Print the JSON Schema of result.json, made from its model."""

from ssl3d.results.schema import generated

print(generated(), end="")  # noqa: T201  # the output
