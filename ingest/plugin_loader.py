"""Finding plugins: installed entry points by name, and what the operator allows by dotted path."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from importlib.metadata import EntryPoint, EntryPoints, entry_points
from inspect import isabstract
from pathlib import Path
from traceback import walk_tb
from typing import Any, Literal, NamedTuple

from ingest.boss import BossPathProcessor, BossTileProcessor, is_boss_class
from ingest.config import FilesJob, JobConfig, KeyTemplate, ProcessorConfig, Settings, parse_model
from ingest.config.paths import from_home
from ingest.errors import PluginError, did_you_mean
from ingest.items import FileItem
from ingest.processors import Finisher, JobContext, Params, PathProcessor, TileProcessor

log = logging.getLogger(__name__)

Kind = Literal["path", "tile", "finisher"]
KIND_WORDS: dict[Kind, str] = {"path": "path processor", "tile": "tile processor", "finisher": "finisher"}
_BASES: dict[Kind, type[Any]] = {"path": PathProcessor, "tile": TileProcessor, "finisher": Finisher}
_GROUPS: dict[Kind, str] = {
    "path": "ingest.path_processors",
    "tile": "ingest.tile_processors",
    "finisher": "ingest.finishers",
}
_OURS = "ingest.plugins"


class Processors(NamedTuple):
    """The two processors of a job, ready for use in this process."""

    path: PathProcessor[Any]
    tile: TileProcessor[Any]

    def files(self, after: str | None = None) -> Iterator[FileItem]:
        """What the path processor's ``paths`` lists.

        Raises:
            PluginError: that is no file.
            ItemError: a part of the source cannot be listed.
        """
        listed: Any = self.path.paths(after)
        if not isinstance(listed, Iterable):
            raise self._no_file(listed)
        for item in listed:
            if not isinstance(item, FileItem):
                raise self._no_file(item)
            yield item

    def _no_file(self, found: object) -> PluginError:
        name = f"{type(self.path).__module__}.{type(self.path).__name__}"
        what = f"{name}.paths() gives {repr(found)[:200]}; expected FileItem (of ingest.items), one after another"
        return PluginError(what, place="path_processor.class")

    def close(self) -> None:
        """Close both."""
        self.path.close()
        self.tile.close()


@cache
def _entry_points(group: str) -> EntryPoints:
    """Those of all that is installed: to look through it takes a while."""
    return entry_points(group=group)


def installed(kind: Kind) -> dict[str, EntryPoint]:
    """The installed plugins of a kind, by name, as they were when a process first asked."""
    return {point.name: point for point in _entry_points(_GROUPS[kind])}


def import_ours(config: JobConfig) -> None:
    """Import a job's processors that come with Ingest, once for all processes that will be forked.

    Those of others may start threads when they are imported, which no fork copies: each process imports them. What
    cannot be imported here is left to them too, who say so.
    """
    ours: tuple[tuple[Kind, ProcessorConfig], ...] = (
        ("path", config.path_processor),
        ("tile", config.tile_processor),
    )
    for kind, processor in ours:
        point = installed(kind).get(processor.class_)
        if point is not None and point.module.startswith(f"{_OURS}."):
            try:
                point.load()
            except Exception as error:  # noqa: BLE001 - whatever a module raises
                log.debug("%s is left to the processes: %s", processor.class_, error)


def load_class(kind: Kind, name: str, settings: Settings, place: str | None = None) -> type[Any]:
    """The class of an installed plugin, or of one at a dotted path that this machine allows.

    Args:
        place: where the config names it, if that is not the processor's own place.

    Raises:
        PluginError: no such plugin (with the nearest names), a dotted path that is not allowed here,
            or a module that cannot be imported.
    """
    place = f"{place or _place(kind)}.class"
    point = installed(kind).get(name)
    if point is not None:
        return _checked(kind, _imported(point.load, repr(name), place), name, place)
    if "." not in name:
        others = [word for other, word in KIND_WORDS.items() if other != kind and name in installed(other)]
        hint = f"it is a {others[0]}" if others else did_you_mean(name, installed(kind))
        raise PluginError(f"there is no {KIND_WORDS[kind]} {name!r}", place=place, hint=hint)
    module_name, _, class_name = name.rpartition(".")
    if not all(part.isidentifier() for part in name.split(".")):
        raise PluginError(f"{name!r} is neither a name nor a dotted path", place=place)
    _allow(module_name, name, place, settings.plugin_paths)
    module = _imported(lambda: importlib.import_module(module_name), module_name, place)
    found = getattr(module, class_name, None)
    if found is None:
        classes = [name for name, value in vars(module).items() if isinstance(value, type)]
        hint = did_you_mean(class_name, classes)
        raise PluginError(f"{module_name} has no class {class_name!r}", place=place, hint=hint)
    return _checked(kind, found, name, place)


def _place(kind: Kind) -> str:
    """Where a config names a processor of this kind."""
    return "finishers" if kind == "finisher" else f"{kind}_processor"


def _imported(load: Callable[[], Any], what: str, place: str) -> Any:
    """What ``load`` imports; a plugin's module may raise anything."""
    try:
        return load()
    except Exception as error:
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        hint = f"install the package that has {missing!r} on every node" if missing else None
        if missing == what.partition(".")[0]:
            hint = "install its package, or put its folder (with a `/`) into INGEST_PLUGIN_PATHS"
        raise PluginError(f"{what} cannot be imported: {error}", place=place, hint=hint) from error


def _allow(module_name: str, name: str, place: str, plugin_paths: str) -> None:
    """Refuse a module that the operator's ``INGEST_PLUGIN_PATHS`` does not allow."""
    allowed = [entry for entry in plugin_paths.split(":") if entry]
    if any(module_name == entry or module_name.startswith(entry + ".") for entry in allowed):
        return
    top = module_name.partition(".")[0]
    folders = [from_home(Path(entry)) for entry in allowed if "/" in entry]
    for folder in folders:
        if (folder / top).is_dir() or (folder / f"{top}.py").is_file():
            if str(folder) not in sys.path:
                sys.path.append(str(folder))
            _check_shadowed(top, folder, place)
            return
    raise PluginError(
        f"{name!r} is not installed as a plugin, and this machine does not allow its module",
        place=place,
        hint=f"INGEST_PLUGIN_PATHS names {':'.join(map(str, folders))}, which has no {top}.py and no folder {top}"
        if folders
        else f"if you trust it, set INGEST_PLUGIN_PATHS={module_name} (or its folder, with a `/`) on every node",
    )


def _check_shadowed(top: str, folder: Path, place: str) -> None:
    """Refuse a module of the same name from elsewhere, which would be imported in the place of the folder's."""
    spec = importlib.util.find_spec(top)
    found = [spec.origin or "", *(spec.submodule_search_locations or ())] if spec else []
    if not any(Path(origin).resolve().is_relative_to(folder.resolve()) for origin in found if origin):
        raise PluginError(
            f"another module {top!r}, outside {folder}, would be imported", place=place, hint="rename it"
        )


def _checked(kind: Kind, found: Any, name: str, place: str) -> type[Any]:
    is_boss = kind != "finisher" and is_boss_class(found)
    if isinstance(found, type) and (issubclass(found, _BASES[kind]) or is_boss):
        return found
    base = _BASES[kind].__name__
    raise PluginError(f"{name!r} is no {KIND_WORDS[kind]}: it does not derive from {base}", place=place)


def _build(
    kind: Kind, config: ProcessorConfig, context: JobContext, settings: Settings, place: str | None = None
) -> Any:
    cls = load_class(kind, config.class_, settings, place)
    if is_boss_class(cls) and kind != "finisher":
        adapter = BossPathProcessor if kind == "path" else BossTileProcessor
        return adapter(cls, config.params, context)
    if isabstract(cls):
        lacks = " and ".join(f"{name}()" for name in sorted(cls.__abstractmethods__))
        raise PluginError(f"{config.class_!r} lacks {lacks}", place=f"{place or _place(kind)}.class")
    return cls(check_params(kind, cls, config, place=place), context)


def check_params(
    kind: Kind,
    cls: type[Any],
    config: ProcessorConfig,
    base_dir: Path | None = None,
    place: str | None = None,
) -> Params:
    """The parameters of a plugin as its own model; relative paths are taken from ``base_dir``.

    Raises:
        ConfigError: with the place of each parameter that is unknown, missing or wrong.
    """
    model: type[Params] = cls.Params
    return parse_model(model, config.params, place=f"{place or _place(kind)}.params", base_dir=base_dir)


def resolve_processors(config: JobConfig, settings: Settings, base_dir: Path | None) -> JobConfig:
    """``config`` with all plugins' parameters checked, defaults filled in, and paths made absolute.

    Raises:
        ConfigError: a plugin or parameter is wrong.
    """

    def resolved(kind: Kind, processor: ProcessorConfig, place: str | None = None) -> ProcessorConfig:
        cls = load_class(kind, processor.class_, settings, place)
        if is_boss_class(cls) and kind != "finisher":
            return processor
        params = check_params(kind, cls, processor, base_dir, place)
        return processor.model_copy(update={"params": params.model_dump(mode="json")})

    update = {
        "path_processor": resolved("path", config.path_processor),
        "tile_processor": resolved("tile", config.tile_processor),
        "finishers": tuple(
            resolved("finisher", finisher, f"finishers.{i}") for i, finisher in enumerate(config.finishers)
        ),
    }
    return _with_digests(_with_default_key(config.model_copy(update=update), settings), settings)


def _with_default_key(config: JobConfig, settings: Settings) -> JobConfig:
    """``config`` with its tile processor's own key template, where it has none and the processor does."""
    default = getattr(load_class("tile", config.tile_processor.class_, settings), "default_key", None)
    if default is None or config.destination.key is not None:
        return config
    destination = config.destination.model_copy(update={"key": KeyTemplate(default)})
    return config.model_copy(update={"destination": destination})


def _with_digests(config: JobConfig, settings: Settings) -> JobConfig:
    """``config`` with the digests of uploads that its finishers need."""
    digests = set(config.upload.digests)
    for finisher in config.finishers:
        digests |= set(load_class("finisher", finisher.class_, settings).digests)
    if digests == set(config.upload.digests):
        return config
    upload = config.upload.model_copy(update={"digests": tuple(sorted(digests))})
    return config.model_copy(update={"upload": upload})


def load_processors(config: JobConfig, context: JobContext, settings: Settings) -> Processors:
    """Both processors of a job, built for this process.

    Raises:
        ConfigError: a processor is not there, not allowed, or its parameters do not fit.
    """
    path: PathProcessor[Any] = _build("path", config.path_processor, context, settings)
    tile: TileProcessor[Any] = _build("tile", config.tile_processor, context, settings)
    lists_files = type(path).paths is not PathProcessor.paths
    if isinstance(config.ingest_job, FilesJob) and not lists_files:
        raise PluginError(
            f"{config.path_processor.class_!r} lists no files; it serves jobs of type 'tiles'",
            place="path_processor.class",
        )
    return Processors(path, tile)


def plugin_at_fault(error: BaseException) -> str | None:
    """Which plugin that is not one of ours was last at work when an error was raised; None where none was."""
    found = None
    for frame, _ in walk_tb(error.__traceback__):
        made = frame.f_locals.get("self")
        is_ours = str(frame.f_globals.get("__name__")).startswith("ingest.")
        if isinstance(made, tuple(_BASES.values())) and not is_ours:
            found = f"{type(made).__module__}.{type(made).__name__}"
    return found


def load_finishers(config: JobConfig, context: JobContext, settings: Settings) -> list[Finisher[Any]]:
    """A job's finishers, built for this process, in the order in which they run.

    Raises:
        ConfigError: one is not there, not allowed, or its parameters do not fit.
    """
    return [
        _build("finisher", finisher, context, settings, f"finishers.{i}")
        for i, finisher in enumerate(config.finishers)
    ]
