"""Files of questions that the user supplies: opinions of countries, and questions with one right answer.

Both are read as their publishers lay them out, from `.csv` or `.jsonl` (a JSON object a line), in UTF-8.

Opinions, as GlobalOpinionQA has them (Durmus et al., arXiv 2306.16388; `data/global_opinions.csv`):

- `question`: the text;
- `options`: the options' texts, a list; in CSV the text of a Python list;
- `selections`: country -> share of each option, in the options' order; in CSV the text of a Python dictionary, with or
  without `defaultdict(<class 'list'>, ...)` around it. Shares are divided by their sum;
- `source` and any other column are not read.

Choices, as CulturalBench-Easy has them (Chiu et al., arXiv 2410.02677):

- `prompt_question`, `prompt_option_a` .. `prompt_option_d`: the texts;
- `answer`: the right option's letter, A .. D;
- `country`: what results are grouped by; `data_idx`, `question_idx` and any other column are not read.

Nothing in a file is ever executed: lists and dictionaries are read as literals. A line that is something else is left
out, with the reason; a file without any good line is an error.
"""

from __future__ import annotations

import ast
import csv
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from evoprompt.errors import UserError
from evoprompt.routing.committee import LETTERS

OPINION_COLUMNS = ("question", "selections", "options")
CHOICE_OPTIONS = tuple(f"prompt_option_{letter}" for letter in "abcd")
READ = (".csv", ".jsonl")
LARGEST = 1e9  # of a share, which may also be a count
_DEFAULTDICT = re.compile(r"\s*defaultdict\(<class 'list'>,(.*)\)\s*", re.DOTALL)
_QUOTED = 60  # characters of a bad value that are shown
_NO_LITERAL = (ValueError, SyntaxError, TypeError, MemoryError, RecursionError)

Entry = TypeVar("Entry")


@dataclass(frozen=True)
class Opinion:
    """A question without a right answer; `shares[country]` are a country's over the options and sum to 1."""

    question: str
    options: tuple[str, ...]
    shares: Mapping[str, tuple[float, ...]]


@dataclass(frozen=True)
class MultipleChoice:
    """A question whose right answer is `options[right]`; `group` is the country or subject that it is about."""

    question: str
    options: tuple[str, ...]
    right: int
    group: str


def load_opinions(path: str | Path) -> tuple[list[Opinion], list[str]]:
    """Read a file of opinions.

    Returns
    -------
    tuple
        The questions, and a line for each line of the file that is left out: where it is, and why.

    Raises
    ------
    UserError
        The file cannot be read, is of another kind or has no good line.
    """
    return _load(Path(path), _opinion)


def load_choices(path: str | Path, group: str = "country") -> tuple[list[MultipleChoice], list[str]]:
    """Read a file of questions with one right answer; `group` is the column that results are grouped by.

    Returns and raises what `load_opinions` does.
    """
    return _load(Path(path), lambda record: _choice(record, group))


def _load(path: Path, parse: Callable[[Mapping[str, Any]], Entry]) -> tuple[list[Entry], list[str]]:
    if path.suffix not in READ:
        raise UserError(f"{path}: files end in {' or '.join(READ)}, this one in {path.suffix!r}")
    found: list[Entry] = []
    refused: list[str] = []
    try:
        for number, record in _csv_records(path) if path.suffix == ".csv" else _json_records(path):
            try:
                if isinstance(record, UserError):
                    raise record
                found.append(parse(record))
            except UserError as error:
                refused.append(f"{path}, line {number}: {' '.join(str(error).split())}")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path}: {error}; give a file of text in UTF-8") from None
    if not found:
        raise UserError(f"{path} has no question that can be asked: {refused[0] if refused else 'it is empty'}")
    return found, refused


def _json_records(path: Path) -> Iterator[tuple[int, dict[str, Any] | UserError]]:
    """Line numbers with what stands there: an object, or what is wrong."""
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except (ValueError, RecursionError) as error:
                yield number, UserError(f"not JSON: {error}; every line must be one JSON object")
                continue
            yield number, record if isinstance(record, dict) else UserError(f"{_quote(line)} is not a JSON object")


def _csv_records(path: Path) -> Iterator[tuple[int, dict[str, Any] | UserError]]:
    """Numbers of the lines where rows begin, with the rows by column, or what is wrong."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows, columns, start = csv.reader(file, strict=True), None, 1
        while True:
            start = rows.line_num + 1
            try:
                row = next(rows)
            except StopIteration:
                return
            except csv.Error as error:
                yield start, UserError(f"not CSV: {error}")
                continue
            if columns is None:
                columns = row
            elif row and len(row) != len(columns):
                yield start, UserError(f"has {len(row)} fields, the header has {len(columns)}")
            elif row:
                yield start, dict(zip(columns, row, strict=True))


def _opinion(record: Mapping[str, Any]) -> Opinion:
    question = _text(record, OPINION_COLUMNS[0])
    given = _literal(record, "options")
    if not isinstance(given, list | tuple):
        raise UserError(f"options {_quote(given)} are not a list")
    options = _options([str(option) for option in given])
    selections = _literal(record, "selections")
    if not isinstance(selections, dict) or not selections:
        raise UserError(f"selections {_quote(selections)} do not map countries to shares")
    return Opinion(question, options, {str(c): _shares(str(c), s, len(options)) for c, s in selections.items()})


def _choice(record: Mapping[str, Any], group: str) -> MultipleChoice:
    if "prompt_option" in record and CHOICE_OPTIONS[0] not in record:
        raise UserError("this is a true-or-false line, as in CulturalBench-Hard; give the Easy file")
    options = _options([_text(record, name) for name in CHOICE_OPTIONS])
    answer = _text(record, "answer").upper()
    if answer not in tuple(LETTERS[: len(options)]):
        raise UserError(f"answer {_quote(record['answer'])} must be one of {', '.join(LETTERS[: len(options)])}")
    return MultipleChoice(_text(record, "prompt_question"), options, LETTERS.index(answer), _text(record, group))


def _text(record: Mapping[str, Any], column: str) -> str:
    if column not in record:
        raise UserError(f"there is no {column!r}; there are {', '.join(map(str, record))}")
    value = record[column]
    if not isinstance(value, str | int | float) or isinstance(value, bool) or not str(value).strip():
        raise UserError(f"{column} is {_quote(value)}, it must be a text")
    return " ".join(str(value).split())


def _options(texts: list[str]) -> tuple[str, ...]:
    options = tuple(" ".join(text.split()) for text in texts)
    if not 2 <= len(options) <= len(LETTERS) or len(set(options)) < len(options) or not all(options):
        raise UserError(f"options {_quote(list(options))} must be 2 to {len(LETTERS)} different texts")
    return options


def _literal(record: Mapping[str, Any], column: str) -> Any:
    """A value that JSON holds as it is and CSV as the text of a Python literal."""
    value = record.get(column)
    if not isinstance(value, str):
        return value
    wrapped = _DEFAULTDICT.fullmatch(value)
    try:
        return ast.literal_eval((wrapped[1] if wrapped else value).strip())
    except _NO_LITERAL:
        raise UserError(f"{column} {_quote(value)} cannot be read; it must be a plain list or dictionary") from None


def _shares(country: str, given: Any, count: int) -> tuple[float, ...]:
    if not isinstance(given, list | tuple) or len(given) != count:
        raise UserError(f"shares of {country} must be {count} numbers, one for each option, not {_quote(given)}")
    if not all(isinstance(x, int | float) and not isinstance(x, bool) and 0 <= x <= LARGEST for x in given):
        raise UserError(f"shares of {country} are {_quote(given)}; they must be numbers from 0 to {LARGEST:g}")
    total = math.fsum(given)
    if not total:
        raise UserError(f"shares of {country} sum to {total}; give a share to one option at least")
    return tuple(float(x) / total for x in given)


def _quote(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= _QUOTED else f"{shown[:_QUOTED]}..."
