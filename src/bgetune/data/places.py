"""Where a source's files lie: one file, a folder of parts, a pattern, an archive, another machine; as local files."""

from __future__ import annotations

import bz2
import glob
import lzma
import re
import shutil
import zipfile
import zlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath

from bgetune import paths
from bgetune.data import engine
from bgetune.errors import InputError
from bgetune.files import is_pattern
from bgetune.locale import _

FORMATS = {
    **{".csv": "csv", ".txt": "csv", ".log": "csv", ".dat": None, ".tsv": "tsv", ".tab": "tsv"},
    **{".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "json", ".parquet": "parquet", ".pq": "parquet"},
    **{".xlsx": "xlsx", ".xlsm": "xlsx", ".xlsb": "xlsx", ".xls": "xlsx", ".ods": "xlsx", ".et": "xlsx"},
    **{".arrow": "arrow"},
}
"""A file's format by the end of its name (without .gz and the like)."""
PACKED = (".gz", ".bz2", ".zst", ".xz")
EXTRAS = {"s3": "s3", "http": "http", "https": "http", "gs": "gcs", "hdfs": "hdfs", "webhdfs": "hdfs", "abfs": "azure"}
"""Scheme of an address -> the extra of bgetune that reads it."""


@dataclass(frozen=True)
class Place:
    """A local file that holds rows.

    Attributes:
        path: where it lies.
        name: what messages call it.
        suffix: the end of its name, lower case, without what it is packed by.
    """

    path: Path
    name: str
    suffix: str


def is_remote(location: str) -> bool:
    """Whether a location is an address on another machine."""
    return "://" in location and not location.startswith(("demo://", "file://"))


def files(location: str) -> list[Path]:
    """The local files that a location stands for, in order: of a folder, those below it that hold rows.

    A name with `[ ] * ?` in it is a file's if there is such a file, else a pattern; `**` is any folders.

    Raises:
        InputError: where there is none.
    """
    path = paths.locate(location.removeprefix("file://"))
    if path.is_file():
        return [path]
    if path.is_dir():
        found = [file for file in sorted(path.rglob("*")) if file.is_file() and not _is_hidden(file, path)]
        known = [file for file in found if suffix_of(file.name) in FORMATS or suffix_of(file.name) == ".zip"]
        if not found:
            raise InputError(_("{location}: the folder holds no files; correct path").format(location=location))
        return _one_split(location, known or found)
    if is_pattern(location):
        found = [Path(name) for name in sorted(glob.glob(str(path), recursive=True))]
        if found := [file for file in found if file.is_file()]:
            return found
        raise InputError(
            _("{location}: no file fits the pattern; correct path (relative ones start at the repository)").format(
                location=location
            )
        )
    raise InputError(
        _("{location}: no such file ({path}); correct path (relative ones start at the repository)").format(
            location=location, path=path
        )
    )


def places(location: str) -> list[Place]:
    """The local files that hold a location's rows: fetched from other machines, taken from archives, unpacked.

    Raises:
        InputError: naming the file and the remedy.
    """
    local = _fetched(location) if is_remote(location) else [(file, None) for file in files(location)]
    alone = len(local) == 1
    found = []
    for file, name in local:
        name = name or (location if alone else _named(file))
        if file.stat().st_size == 0:
            if alone:
                raise InputError(_("{name}: the file is empty; export it again").format(name=name))
            continue  # Spark and Hive write empty parts
        stat = file.stat()
        found += _unpacked(file, name, stat.st_size, stat.st_mtime_ns)
    if not found:
        raise InputError(_("{location}: all its files are empty; export them again").format(location=location))
    return found


def _named(file: Path) -> str:
    return str(file.relative_to(paths.ROOT)) if file.is_relative_to(paths.ROOT) else str(file)


def suffix_of(name: str) -> str:
    """The end of a file's name, lower case, without what it is packed by."""
    pure = PurePosixPath(name.lower())
    return PurePosixPath(pure.stem).suffix if pure.suffix in PACKED else pure.suffix


def _is_hidden(file: Path, folder: Path) -> bool:
    """Whether a file is bookkeeping: _SUCCESS, .crc, metadata of datasets, a note to the reader."""
    parts = file.relative_to(folder).parts
    bookkeeping = file.name in ("dataset_info.json", "state.json", "dataset_dict.json") or file.suffix == ".md"
    return bookkeeping or any(part.startswith((".", "_")) for part in parts) or file.name.endswith(".crc")


_SPLIT = re.compile(r"(?:^|[^a-z])(train|training|dev|valid|validation|val|test)(?:[^a-z]|$)")


def _one_split(location: str, found: list[Path]) -> list[Path]:
    """The files of a folder; refused where they are the splits of a data set."""
    folder = paths.locate(location.removeprefix("file://"))
    splits = {split[1] for file in found if (split := _SPLIT.search(str(file.relative_to(folder)).lower()))}
    if len(splits) > 1:
        example = next(file for file in found if _SPLIT.search(str(file.relative_to(folder)).lower()))
        wanted = example.relative_to(folder)
        pattern = wanted.parent / re.sub("[0-9].*", f"*{''.join(wanted.suffixes)}", wanted.name)
        raise InputError(
            _("{location}: the folder holds {splits}; name one of them, for example path: {example}").format(
                location=location,
                splits=", ".join(sorted(splits)),
                example=Path(location) / (wanted.parent if wanted.parent != Path(".") else pattern),
            )
        )
    return found


# --- packed -------------------------------------------------------------------------------------------------------


@cache
def _unpacked(file: Path, name: str, *_version: int) -> list[Place]:
    """A packed file's contents; gzip is read as it is."""
    suffix = file.suffix.lower()
    if suffix == ".zip":
        return _members(file, name)
    if suffix in (".tar", ".tgz", ".rar", ".7z") or ".tar" in file.suffixes:
        raise InputError(
            _("{name}: a {format} archive; unpack it, or pack it as .zip").format(name=name, format=suffix[1:])
        )
    if suffix not in (".bz2", ".zst", ".xz"):
        return [Place(file, name, suffix_of(file.name))]
    target = engine.workspace() / f"unpacked_{next(engine.numbers)}{suffix_of(file.name)}"
    try:
        with _decompressed(file, suffix) as packed, target.open("wb") as out:
            shutil.copyfileobj(packed, out, 1 << 20)
    except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
        raise InputError(
            _("{name}: damaged {format} file ({problem}); copy or pack it again").format(
                name=name, format=suffix[1:], problem=error
            )
        ) from None
    return [Place(target, name, suffix_of(file.name))]


def _decompressed(file: Path, suffix: str):
    if suffix == ".zst":
        import pyarrow as pa

        return pa.input_stream(str(file), compression="zstd")
    return bz2.open(file) if suffix == ".bz2" else lzma.open(file)


def _members(file: Path, name: str) -> list[Place]:
    found = []
    try:
        with zipfile.ZipFile(file) as archive:
            for member in sorted(archive.infolist(), key=lambda member: member.filename):
                inner = PurePosixPath(member.filename)
                if (
                    member.is_dir()
                    or member.file_size == 0
                    or inner.name.startswith((".", "_"))
                    or "__MACOSX" in inner.parts
                ):
                    continue
                suffix = suffix_of(inner.name)
                target = engine.workspace() / f"unpacked_{next(engine.numbers)}{suffix}"  # never the name given inside
                with archive.open(member) as packed, target.open("wb") as out:
                    shutil.copyfileobj(packed, out, 1 << 20)
                if suffix in FORMATS or len(archive.infolist()) == 1:
                    found.append(Place(target, f"{name}/{member.filename}", suffix))
    except RuntimeError:
        raise InputError(_("{name}: the archive has a password; pack it without one").format(name=name)) from None
    except (zipfile.BadZipFile, NotImplementedError, zlib.error, EOFError) as error:
        raise InputError(
            _("{name}: damaged zip archive ({problem}); pack it again").format(name=name, problem=error)
        ) from None
    if not found:
        raise InputError(
            _("{name}: no file in the archive can be read; give it {formats}").format(
                name=name, formats=", ".join(FORMATS)
            )
        )
    return found


# --- other machines -----------------------------------------------------------------------------------------------


@cache
def _fetched(location: str) -> list[tuple[Path, str]]:
    """Copies of the files that an address stands for, and their addresses."""
    import fsspec

    scheme = location.partition("://")[0]
    try:
        system, inside = fsspec.core.url_to_fs(location)
        if any(letter in inside for letter in "*[") or (scheme not in ("http", "https") and system.isdir(inside)):
            pattern = inside if any(letter in inside for letter in "*[") else f"{inside.rstrip('/')}/**"
            remote = [one for one in sorted(system.glob(pattern)) if not system.isdir(one)]
            remote = [one for one in remote if not PurePosixPath(one).name.startswith((".", "_"))]
        else:
            remote = [inside]
        copies = []
        for one in remote:
            end = "".join(PurePosixPath(one.split("?")[0]).suffixes[-2:])
            target = (
                engine.workspace()
                / f"fetched_{next(engine.numbers)}{end if re.fullmatch('[.A-Za-z0-9]*', end) else ''}"
            )
            with system.open(one, "rb") as incoming, target.open("wb") as out:
                shutil.copyfileobj(incoming, out, 8 << 20)
            copies.append((target, system.unstrip_protocol(one)))
    except (ImportError, ValueError) as error:
        extra = EXTRAS.get(scheme)
        remedy = f"pip install 'bgetune[{extra}]'" if extra else _("see s3://, https://, hdfs://, gs:// and abfs://")
        raise InputError(
            _("{location}: cannot be fetched ({problem}); {remedy}").format(
                location=location, problem=str(error).splitlines()[0], remedy=remedy
            )
        ) from None
    except FileNotFoundError:
        raise InputError(_("{location}: no such file; correct path").format(location=location)) from None
    except Exception as error:  # every file system has its own
        message = (str(error).strip() or type(error).__name__).splitlines()[0]
        name = location.split("?")[0]
        raise InputError(
            _("{name}: cannot be fetched: {message}; correct path, or give its credentials in the environment").format(
                name=name, message=message
            )
        ) from None
    if not copies:
        raise InputError(_("{location}: no file fits the pattern; correct path").format(location=location))
    return copies


def described(location: str) -> list[str]:
    """The local files of a location as the profile or the repository names them, for the manifest.

    A pattern comes first, then its files: a file that begins to fit it is a change, too.
    """
    if is_remote(location):
        return []
    path = paths.locate(location.removeprefix("file://"))
    if path.exists() or not is_pattern(location):
        return [location]
    return [location, *map(_named, files(location))]
