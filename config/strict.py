"""What all parts of a config have in common."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Strict(BaseModel):
    """A part of a config: unknown keys are refused, and it does not change once read."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        populate_by_name=True,
        json_schema_extra={
            "patternProperties": {"^//": True}
        },  # comments, which are dropped before it is read
    )
