"""Times as logs write them, as timestamps in UTC.

What DuckDB reads by itself (ISO 8601, seconds since 1970) is left to it; everything else is read here, value by value.
"""

from __future__ import annotations

import atexit
import os
import re
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from functools import cache, lru_cache
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import duckdb
import pyarrow as pa

from bgetune.data.engine import connect, literal
from bgetune.errors import InputError
from bgetune.locale import _

FIRST, LAST = datetime(1980, 1, 1), datetime(2200, 1, 1)
"""A time outside is a misread one: a log of searches is not that old."""

_EXCEL_DAY = datetime(1899, 12, 30)
_HOURS = {"UTC": 0, "GMT": 0, "Z": 0, "CST": 8, "HKT": 8, "SGT": 8, "JST": 9, "KST": 9}
_HOURS |= {"EST": -5, "EDT": -4, "CDT": -5, "MST": -7, "MDT": -6, "PST": -8, "PDT": -7, "CET": 1, "CEST": 2, "BST": 1}
_MONTHS = {
    name: n
    for n, name in enumerate(
        ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"], start=1
    )
}


# --- one value ----------------------------------------------------------------------------------------------------

_DATE = re.compile(
    r"(?P<year>[0-9]{4})\s*[-/.年]\s*(?P<month>[0-9]{1,2})\s*[-/.月]\s*(?P<day>[0-9]{1,2})(?:\s*[日号]|(?![0-9]))"
    r"|(?P<compact>(?:19|20)[0-9]{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12][0-9]|3[01]))(?![0-9])"
    r"|(?:[A-Za-z]{3,9},?\s+)?(?P<day_first>[0-9]{1,2})[-/ ](?P<name>[A-Za-z]{3})[A-Za-z]*[-/ ,]+"
    r"(?P<year_last>[0-9]{4})"
    r"|(?:[A-Za-z]{3,9},?\s+)?(?P<name_first>[A-Za-z]{3})[A-Za-z]*\.?\s+(?P<day_after>[0-9]{1,2})(?:,?\s+(?P<year_after>[0-9]{4}))?"
    r"|(?P<one>[0-9]{1,2})[-/.](?P<two>[0-9]{1,2})[-/.](?P<year_of_both>[0-9]{4})(?![0-9])"
)
_CLOCK = re.compile(
    r"\s*[T:,]?\s*(?:(?:星期|周|礼拜)[一二三四五六日天])?\s*(?P<before>凌晨|早上|上午|中午|下午|傍晚|晚上|[AaPp]\.?[Mm]\.?)?\s*"
    r"(?P<hour>[0-9]{1,2})\s*[:时点]\s*(?P<minute>[0-9]{1,2})?\s*(?:[:分]\s*(?P<second>[0-9]{1,2})?(?:[.,](?P<fraction>[0-9]{1,9}))?\s*秒?)?"
    r"\s*(?P<after>[AaPp]\.?[Mm]\.?(?![A-Za-z]))?"
)
_ZONE = re.compile(
    r"\s*(?:(?P<name>[A-Za-z]{1,5})?\s*(?P<sign>[-+])(?P<hours>[0-9]{1,2}):?(?P<minutes>[0-9]{2})?|(?P<zone>[A-Za-z_]+(?:/[A-Za-z_]+)*))?"
    r"\s*(?P<year>[0-9]{4})?\s*(?:\(.*\))?\s*"
)
_DIGITS = str.maketrans("０１２３４５６７８９：／－．　", "0123456789:/-. ")


def parse(text: str, zone: tzinfo = UTC, order: str | None = None) -> datetime | None:
    """A time in UTC without tzinfo, or None for a text that is no time.

    Args:
        text: a date with or without the time of day and the offset from UTC; digits since 1970 or in a row; a serial
            number of Excel.
        zone: of times that name none.
        order: "day" or "month": what comes first in 1/5/2026. None: such a text is no time.
    """
    text = text.strip().translate(_DIGITS)
    text = re.sub(r"^([0-9]{8})T([0-9]{2})([0-9]{2})([0-9]{2})", r"\1 \2:\3:\4", text)
    try:
        found = _number(text, zone) if re.fullmatch(r"[0-9.]+(?:[eE]\+?[0-9]+)?", text) else None
        found = found or _written(text, zone, order)
    except (ValueError, OverflowError):
        return None
    return found if found and FIRST <= found < LAST else None


def _number(text: str, zone: tzinfo) -> datetime | None:
    if text.isdecimal() and len(text) in (12, 14, 17) and text[:2] in ("19", "20"):
        layout = "%Y%m%d%H%M%S%f"[: {12: 10, 14: 12, 17: 14}[len(text)]]
        try:
            return _in_utc(datetime.strptime(text, layout), zone)
        except ValueError:
            pass
    if text.isdecimal() and len(text) == 8:
        return None  # a date
    value = float(text)
    for power, scale in ((8, 1), (11, 1e3), (14, 1e6), (17, 1e9)):
        if 10**power <= value < 10 ** (power + 3):
            return datetime(1970, 1, 1) + timedelta(seconds=value / scale)
    if 29_000 < value < 80_000:  # Excel's days, from 1980 on
        return _in_utc(_EXCEL_DAY + timedelta(seconds=round(value * 86_400)), zone)
    return None


def _written(text: str, zone: tzinfo, order: str | None) -> datetime | None:
    date = _DATE.match(text)
    if date is None:
        return None
    position = date.end()
    clock = _CLOCK.match(text, position)
    time = timedelta()
    if clock:
        hour = _hour(int(clock["hour"]), clock["before"] or clock["after"] or "")
        minute, second = int(clock["minute"] or 0), int(clock["second"] or 0)
        if hour is None or hour > 24 or minute > 59 or second > 60:
            return None
        time = timedelta(hours=hour, minutes=minute, seconds=second + float(f"0.{clock['fraction'] or 0}"))
        position = clock.end()
    offset = _ZONE.fullmatch(text, position)
    if offset is None:
        return None
    day = _day(date, order, offset["year"])
    if day is None:
        return None
    if offset["sign"]:
        shift = timedelta(hours=int(offset["hours"]), minutes=int(offset["minutes"] or 0))
        if (offset["name"] or "UTC").upper() not in ("UTC", "GMT", "Z"):
            return None
        return day + time - (shift if offset["sign"] == "+" else -shift)
    if offset["zone"]:
        named = _named(offset["zone"], zone)
        return None if named is None else _in_utc(day + time, named)
    return _in_utc(day + time, zone)


def _day(date: re.Match, order: str | None, year_last: str | None) -> datetime | None:
    if date["compact"]:
        return datetime.strptime(date["compact"], "%Y%m%d")
    if date["year"]:
        return datetime(int(date["year"]), int(date["month"]), int(date["day"]))
    name, day = date["name"] or date["name_first"], date["day_first"] or date["day_after"]
    if name:
        year = date["year_last"] or date["year_after"] or year_last
        month = _MONTHS.get(name.lower())
        return datetime(int(year), month, int(day)) if year and month else None
    if order is None:
        return None
    day, month = (date["one"], date["two"]) if order == "day" else (date["two"], date["one"])
    return datetime(int(date["year_of_both"]), int(month), int(day))


def _hour(hour: int, half: str) -> int | None:
    """The hour of 24 that an hour of 12 and its half of the day name."""
    half = half.lower().replace(".", "")
    if half in ("pm", "下午", "傍晚", "晚上") or (half == "中午" and hour < 3):
        return hour + 12 if hour < 12 else hour
    if half in ("am", "凌晨", "早上", "上午"):
        return 0 if hour == 12 else hour
    return hour


def _named(name: str, zone: tzinfo) -> tzinfo | None:
    """A time zone by its name. CST is China's, except where the log's own zone is American."""
    american = str(zone).startswith(("America/", "US/"))
    if name.upper() == "CST" and american:
        return timezone(timedelta(hours=-6))
    if name.upper() in _HOURS:
        return timezone(timedelta(hours=_HOURS[name.upper()]))
    try:
        return ZoneInfo(name) if "/" in name else None
    except (ZoneInfoNotFoundError, ValueError):
        return None


def _in_utc(time: datetime, zone: tzinfo) -> datetime:
    return time if zone is UTC else time.replace(tzinfo=zone).astimezone(UTC).replace(tzinfo=None)


# --- time zones ---------------------------------------------------------------------------------------------------


def zone_of(name: str | None) -> tzinfo:
    """A time zone by its name in the IANA database, such as Asia/Shanghai; None: this machine's.

    Raises:
        InputError: for an unknown name.
    """
    if name is None:
        return _system_zone()
    try:
        return UTC if name.upper() in ("UTC", "GMT", "Z") else ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError):
        raise InputError(_("timezone: {name} is unknown; for example Asia/Shanghai, UTC").format(name=name)) from None


@cache
def _system_zone() -> tzinfo:
    link = os.path.realpath("/etc/localtime").rpartition("zoneinfo/")[2] if Path("/etc/localtime").exists() else ""
    for name in (os.environ.get("TZ", "").lstrip(":"), link):
        try:
            return UTC if name in ("UTC", "Etc/UTC", "Universal", "Etc/Universal", "Zulu") else ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            continue
    offset = datetime.now().astimezone().utcoffset()
    return timezone(offset) if offset else UTC


def _fixed_offset(zone: tzinfo) -> timedelta | None:
    """A zone's offset where it has been the same for all the years that logs come from."""
    hours = range(0, 40 * 8766, 730)  # monthly
    offsets = {zone.utcoffset(datetime(2000, 1, 1) + timedelta(hours=hour)) for hour in hours}
    return offsets.pop() if len(offsets) == 1 else None


# --- columns ------------------------------------------------------------------------------------------------------

AMBIGUOUS = r"^[0-9]{1,2}[-/.][0-9]{1,2}[-/.][0-9]{4}([^0-9]|$)"
"""A date of which day and month could be either way round."""


def seconds_sql(column: str) -> str:
    """The seconds in a text column of DuckDB, null where it holds none: 12, 1,234.5, 12s, 1500ms, 00:01:30."""
    number = f"try_cast(regexp_extract({column}, '[0-9.]+') AS DOUBLE)"
    return (
        f"CASE WHEN regexp_full_match({column}, '[0-9]+:[0-9]{{2}}:[0-9.]+') "
        f"THEN epoch(try_cast({column} AS INTERVAL)) "
        f"WHEN regexp_full_match({column}, '[0-9.]+ *ms') THEN {number} / 1000 "
        f"WHEN regexp_full_match({column}, '[0-9.]+ *(s|秒)') THEN {number} "
        f"WHEN regexp_full_match({column}, '[0-9]{{1,3}}(,[0-9]{{3}})+([.][0-9]+)?') "
        f"THEN try_cast(replace({column}, ',', '') AS DOUBLE) ELSE try_cast({column} AS DOUBLE) END"
    )


def time_sql(name: str | None, time_format: str | None, order: str | None) -> str:
    """The timestamp (UTC) of the text column `time` in DuckDB, null where it is no time.

    Args:
        name: time zone of times that name none; None: this machine's.
        time_format: how DuckDB's strptime reads all of the column; None: as `parse` does.
        order: see `parse`.

    Raises:
        InputError: for an unknown time zone or a format that DuckDB does not know.
    """
    zone = zone_of(name)
    if time_format:
        try:
            connect().con.execute(f"SELECT try_strptime('', {literal(time_format)})")
        except duckdb.Error as error:
            raise InputError(
                _("time_format: {time_format}: {problem}").format(
                    time_format=time_format, problem=str(error).splitlines()[0]
                )
            ) from None
        value = f"try_strptime(time, {literal(time_format)})::TIMESTAMP"
        return value if "%z" in time_format or "%Z" in time_format else _shifted(value, zone)
    # what ends in letters is left to `parse`: DuckDB's casts read 08:30 PM in the morning, and CST in Chicago
    begins = " OR ".join(f"starts_with(time, '{decade}')" for decade in ("20", "199", "198"))
    trusted = f"({begins}) AND (time[-1] BETWEEN '0' AND '9' OR time[-1] = 'Z')"
    iso = "try_cast(time AS TIMESTAMPTZ)::TIMESTAMP"
    local = _shifted(iso, zone)
    if local != iso:
        # the cast to TIMESTAMP leaves the offset out
        has_offset = f"time[-1] = 'Z' OR contains(time, '+0') OR {iso} <> try_cast(time AS TIMESTAMP)"
        local = f"CASE WHEN {has_offset} THEN {iso} ELSE {local} END"
    iso = f"CASE WHEN {trusted} THEN {local} END"
    since_1970 = """CASE WHEN regexp_full_match(time, '[0-9]{9,10}([.][0-9]*)?')
        THEN make_timestamp((time::DOUBLE * 1e6)::BIGINT)
        WHEN regexp_full_match(time, '[0-9]{13}') THEN make_timestamp(time::BIGINT * 1000)
        WHEN regexp_full_match(time, '[0-9]{15,16}') THEN make_timestamp(time::BIGINT) END"""
    of_day = "CASE WHEN regexp_full_match(time, '[0-9]{1,2}(:[0-9]{2}){1,2}([.][0-9]+)?') "
    of_day += "THEN DATE '1970-01-01' + try_cast(time AS TIME) END"
    return f"coalesce({iso}, {since_1970}, {of_day}, {_reader(zone, order)}(time))"


def _shifted(value: str, zone: tzinfo) -> str:
    """A local timestamp in UTC."""
    offset = _fixed_offset(zone)
    if offset is None:
        return f"timezone({literal(str(zone))}, {value})::TIMESTAMP"
    return f"({value} - to_seconds({int(offset.total_seconds())}))" if offset else value


@lru_cache
def _reader(zone: tzinfo, order: str | None) -> str:
    """The name of `parse` as a function of DuckDB."""
    name = f"parse_time_{_reader.cache_info().misses}"

    def read(column: pa.ChunkedArray) -> pa.Array:
        return pa.array([text and parse(text, zone, order) for text in column.to_pylist()], pa.timestamp("us"))

    connection = connect().con
    connection.create_function(name, read, ["VARCHAR"], "TIMESTAMP", type="arrow", null_handling="special")
    atexit.register(connection.remove_function, name)  # or DuckDB complains of a leak when Python ends
    return name
