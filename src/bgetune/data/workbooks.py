"""Sheets of Excel, LibreOffice and WPS workbooks as tables of text."""

from __future__ import annotations

import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd
from python_calamine import CalamineError, CalamineSheet, CalamineWorkbook, PasswordError, WorksheetNotFound

from bgetune.errors import InputError
from bgetune.locale import _

SUFFIXES = (".xlsx", ".xlsm", ".xlsb", ".xls", ".ods", ".et")


class NoRows(InputError):
    """A sheet that has no rows, or none below its header."""


def sheet_names(path: Path, name: str) -> list[str]:
    """The names of a workbook's sheets, in its order.

    Raises:
        InputError: where it cannot be read.
    """
    return _open(path, name).sheet_names


def filled_sheets(path: Path, name: str) -> list[str]:
    """The names of the sheets that hold anything."""
    workbook = _open(path, name)
    return [sheet for sheet in workbook.sheet_names if workbook.get_sheet_by_name(sheet).total_height]


def read(path: Path, name: str, sheet: str | None = None, *, header: bool = True, skip_rows: int = 0) -> pd.DataFrame:
    """A sheet as text: numbers without a trailing .0, dates as ISO 8601, true and false; merged cells all filled.

    Args:
        path: the workbook.
        name: what messages call it.
        sheet: its name; None: the first one that is not empty.
        header: whether the first row names the columns; else they are numbered.
        skip_rows: rows above the header.

    Raises:
        InputError: where it cannot be read or has no such sheet; NoRows where that has no rows.
    """
    workbook = _open(path, name)
    if sheet is None:
        filled = (one for one in workbook.sheet_names if workbook.get_sheet_by_name(one).total_height)
        sheet = next(filled, workbook.sheet_names[0])
    try:
        rows = _rows(workbook.get_sheet_by_name(sheet))[skip_rows:]
    except WorksheetNotFound:
        raise InputError(
            _("{name}: no sheet {sheet}; it has {sheets}. Correct table").format(
                name=name, sheet=sheet, sheets=", ".join(workbook.sheet_names)
            )
        ) from None
    except (CalamineError, OSError) as error:
        raise InputError(
            _("{name}: sheet {sheet} cannot be read: {problem}; save it as .xlsx").format(
                name=name, sheet=sheet, problem=error
            )
        ) from None
    while rows and not any(rows[0]):
        rows = rows[1:]
    if not rows[header:]:
        raise NoRows(_("{name}: sheet {sheet} has no rows; name another in table").format(name=name, sheet=sheet))
    names = [" ".join(cell.split()) for cell in rows[0]] if header else [str(n) for n in range(len(rows[0]))]
    while names and not names[-1] and not any(row[len(names) - 1] for row in rows):
        names = names[:-1]
    return pd.DataFrame([row[: len(names)] for row in rows[header:] if any(row)], columns=names, dtype=str)


def _open(path: Path, name: str) -> CalamineWorkbook:
    try:
        return CalamineWorkbook.from_path(str(path))
    except PasswordError:
        raise InputError(_("{name}: the workbook has a password; save it without one").format(name=name)) from None
    except (CalamineError, OSError) as error:
        raise InputError(
            _("{name}: not an Excel workbook that can be read: {problem}; save it as .xlsx").format(
                name=name, problem=error
            )
        ) from None


def _rows(sheet: CalamineSheet) -> list[list[str]]:
    rows = [[_text(cell) for cell in row] for row in sheet.to_python(skip_empty_area=False)]
    for (top, left), (bottom, right) in sheet.merged_cell_ranges or ():
        for row in range(top, min(bottom, len(rows) - 1) + 1):
            for column in range(left, min(right, len(rows[row]) - 1) + 1):
                rows[row][column] = rows[top][left]
    return rows


def _text(cell: Any) -> str:
    if isinstance(cell, bool):
        return str(cell).lower()
    if isinstance(cell, float):
        if not cell.is_integer():
            return repr(cell)
        # from 2^53 on different numbers are one; as CSV spells them, ids are told to be rounded (drops.ROUNDED_FORM)
        return str(int(cell)) if abs(cell) < 2**53 else f"{Decimal(repr(cell)).normalize():E}"
    if isinstance(cell, datetime.datetime | datetime.date):
        return cell.isoformat(" ") if isinstance(cell, datetime.datetime) else cell.isoformat()
    if isinstance(cell, datetime.timedelta):
        return str(datetime.timedelta(seconds=round(cell.total_seconds())))
    return str(cell)
