"""Whatever JSON a file holds is a config, or an error that says where: nothing else is raised."""

from __future__ import annotations

import copy
import json
from importlib.resources import files
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingest.config import JobConfig, load_job_config, parse_config
from ingest.errors import ConfigError

EXAMPLES = [
    json.loads(path.read_text()) for path in sorted(Path(str(files("ingest.config.examples"))).glob("*.json"))
]

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=12),
    st.sampled_from(
        ["s3://", "s3://b?x", "file://host/x", "{", "{x", "{path", "..", "a\0b", "\ud800", "~nobody/x"]
    ),
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)


def places(node: Any, at: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """The path to everything in a config."""
    inner = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    return [at, *(place for name, value in inner for place in places(value, (*at, name)))]


@st.composite
def damaged(draw: st.DrawFn) -> Any:
    """An example config in which some values are others, or gone, and some keys are added."""
    config: Any = copy.deepcopy(draw(st.sampled_from(EXAMPLES)))
    for _ in range(draw(st.integers(1, 3))):
        *parents, last = draw(st.sampled_from([place for place in places(config) if place] or [("name",)]))
        holder = config
        for name in parents:
            holder = holder[name]
        match draw(st.sampled_from(["change", "remove", "add"])):
            case "change":
                holder[last] = draw(values)
            case "remove":
                del holder[last]
            case _ if isinstance(holder, dict):
                holder[draw(st.text(max_size=8))] = draw(values)
    return config


@settings(max_examples=400, suppress_health_check=list(HealthCheck))
@given(config=st.one_of(damaged(), st.dictionaries(st.text(max_size=8), values, max_size=4)))
def test_any_object_is_a_config_or_refused(config: dict[str, Any], tmp_path_factory: Any) -> None:
    """As a file, through every step of reading it."""
    path: Path = tmp_path_factory.getbasetemp() / "any.json"
    path.write_text(json.dumps(config))
    try:
        parsed = parse_config(load_job_config(path), base_dir=path.parent)
    except ConfigError as error:
        assert error.what
        return
    again = json.loads(parsed.model_dump_json(by_alias=True))
    assert JobConfig.model_validate(again) == parsed, "what nodes read from Redis is what was written"


@settings(max_examples=200, suppress_health_check=list(HealthCheck))
@given(
    body=st.one_of(
        st.binary(max_size=64), st.text(max_size=64).map(lambda text: text.encode(errors="replace"))
    )
)
def test_any_file_is_read_or_refused(body: bytes, tmp_path_factory: Any) -> None:
    """Bytes that are no JSON, or no object."""
    path: Path = tmp_path_factory.getbasetemp() / "bytes.json"
    path.write_bytes(body)
    try:
        assert isinstance(load_job_config(path), dict)
    except ConfigError as error:
        assert str(path) in error.what or error.place
