"""CSV files: what stands between their columns, how their numbers are spelled, and their rows block
by block.
"""

import csv
import dataclasses
import gzip
import io
import re
import zlib
from collections.abc import Collection, Iterator, Sequence
from typing import IO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from nice_tf.errors import UserError

DELIMITERS = (",", ";", "\t", "|")
_BLOCK_BYTES, _MAX_BLOCK_BYTES = 2**21, 2**27
_SAMPLE_CHARACTERS, _SAMPLE_ROWS = 2**18, 200
_NAMES = {"\t": "a tab", ",": "a comma", ";": "a semicolon", "|": "a pipe"}
# Texts without the white space around them. The engine is RE2.
_NUMBER = r"^[+-]?(?i:(\d+\.?\d*|\.\d+)(e[+-]?\d+)?|inf|infinity|nan)$"
_LOGICAL = r"^(?i:true|false)$"
_GROUPED = r"^[+-]?\d{1,3}([., '\x{A0}\x{202F}\x{2019}]\d{3})+([.,]\d+)?$"


@dataclasses.dataclass(frozen=True)
class CsvFormat:
    """How a CSV file is written.

    Attributes:
      delimiter: the character between columns.
      decimal: the mark before the decimals of a number, a dot or a comma.
    """

    delimiter: str = ","
    decimal: str = "."


PLAIN = CsvFormat()


@dataclasses.dataclass(frozen=True)
class Hints:
    """What the user can do where a file may be read in two ways.

    Attributes:
      delimiter: about what stands between columns, the end of a sentence.
      decimal: about decimal marks, a sentence.
    """

    delimiter: str = "the setting delimiter says which, or write it with another"
    decimal: str = "Give it as decimal, or write the file with more than three decimals"


HINTS = Hints()  # of training, which has settings for it


def delimiter_name(delimiter: str) -> str:
    """A delimiter in words."""
    return _NAMES.get(delimiter, repr(delimiter))


def is_gzip(file: str) -> bool:
    """Whether a file's name says that it is compressed, in letters of any case."""
    return file.lower().endswith(".gz")


def open_text(file: str, errors: str = "strict") -> IO[str]:
    """A CSV file, compressed or not, as text; `errors` as for `open`."""
    if is_gzip(file):
        return gzip.open(file, "rt", encoding="utf-8-sig", newline="", errors=errors)
    return open(file, encoding="utf-8-sig", newline="", errors=errors)


def header(file: str, delimiter: str) -> list[str]:
    """The fields of the first line that is not empty; none of an empty file.

    Raises:
      UserError: the file cannot be read.
    """
    try:
        with open_text(file) as lines:
            return next((names for names in csv.reader(lines, delimiter=delimiter) if names), [])
    except UnicodeDecodeError as error:
        raise UserError(
            f"{file} cannot be read as CSV in UTF-8: {error}. Save it as CSV UTF-8; or convert it, "
            "from what Excel writes by iconv -f cp1252 -t utf-8"
        ) from error
    except (OSError, EOFError, zlib.error, csv.Error) as error:
        raise UserError(f"{file} cannot be read as CSV in UTF-8: {error}") from error


def sniff_delimiter(
    file: str, usual: str = "", needed: Collection[str] = (), hints: Hints = HINTS
) -> str:
    """What stands between the columns of a file.

    It is one that the first line has and that gives each of the first rows as many fields as the
    first line; a comma if none does. A text with semicolons in it does not make a column of a
    comma's file two: its first line has none.

    Args:
      file: path.
      usual: the delimiter to take where several fit, as the training file's; any character, or
        none.
      needed: names of columns that the first line must have; where no delimiter gives all of them,
        they do not count.
      hints: for the message.

    Raises:
      UserError: the file cannot be read; several delimiters fit, and `usual` is none of them.
    """
    sample = _sample(file)
    rows = {
        delimiter: _rows(sample, delimiter)
        for delimiter in dict.fromkeys([*DELIMITERS, usual])
        if delimiter
    }
    possible = [delimiter for delimiter, found in rows.items() if found and len(found[0]) > 1]
    possible = [
        delimiter for delimiter in possible if {*needed} <= {*rows[delimiter][0]}
    ] or possible
    fitting = [delimiter for delimiter in possible if len(set(map(len, rows[delimiter]))) == 1]
    if usual in fitting:
        return usual
    if len(fitting) > 1:
        telling = [delimiter for delimiter in fitting if _has_numbers(rows[delimiter], delimiter)]
        if len(telling) > 1:
            names = " or ".join(map(delimiter_name, telling))
            raise UserError(f"{file} may have {names} between its columns: {hints.delimiter}")
        fitting = telling or fitting
    # A damaged file is refused later, with the row: by commas if its first line has some.
    return next(iter([*fitting, *possible]), ",")


def _sample(file):
    """The start of a file, and whether there is more."""
    try:
        with open_text(file, "replace") as lines:  # a column of text may be of other bytes
            text = lines.read(_SAMPLE_CHARACTERS)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{file} cannot be read as CSV in UTF-8: {error}") from error
    return text, len(text) == _SAMPLE_CHARACTERS


def _rows(sample, delimiter):
    """The first rows, or none if they are no CSV of this delimiter."""
    text, is_cut = sample
    try:
        rows = [
            row for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter) if row
        ]
    except csv.Error:
        return []
    if is_cut and len(rows) > 1:
        rows.pop()
    return rows[:_SAMPLE_ROWS]


def _has_numbers(rows, delimiter):
    """Whether some column has numbers alone, which may have a decimal comma where it does not end a
    column.
    """
    pattern = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.IGNORECASE)
    for column in zip(*rows[1:], strict=True):
        cells = [cell.strip() for cell in column if cell.strip()]
        plain = cells if delimiter == "," else [cell.replace(",", ".", 1) for cell in cells]
        if plain and all(map(pattern.fullmatch, plain)):
            return True
    return False


def batches(
    file: str,
    form: CsvFormat,
    types: dict[str, pa.DataType],
    *,
    strings_can_be_null: bool = True,
    check_utf8: bool = True,
) -> Iterator[pa.RecordBatch]:
    """The rows of a file in order, some megabytes at a time.

    It reads no more than it is asked for, unlike a scan of Arrow's data sets, which would fill the
    memory.

    Args:
      file: path.
      form: how it is written.
      types: of the columns that are wanted, by name, one at least.
      strings_can_be_null: whether an empty cell of text is a missing one.
      check_utf8: whether text must be UTF-8.

    Raises:
      pa.ArrowException, OSError: a damaged file, or a cell that is not of its type.
    """
    options = pa.csv.ConvertOptions(
        column_types=types,
        include_columns=list(types),
        strings_can_be_null=strings_can_be_null,
        check_utf8=check_utf8,
        decimal_point=form.decimal,
    )
    size, num_given = _BLOCK_BYTES, 0
    while True:
        num_known = num_given
        try:
            with _opened(file) as content:
                for batch in _reader(content, form, options, size):
                    new = batch.slice(min(num_known, len(batch)))
                    num_known -= len(batch) - len(new)
                    num_given += len(new)
                    yield new
            return
        except pa.ArrowInvalid as error:
            size = _larger(size, error)


def _larger(size, error):
    """Another size of a block, if a row or the line of names was longer; else the error."""
    is_long = any(words in str(error) for words in ("straddling object", "Empty CSV file or block"))
    if not is_long or size >= _MAX_BLOCK_BYTES:
        raise error
    return size * 8


def _opened(file):
    # What Arrow takes for compressed would depend on the case of the suffix.
    return pa.input_stream(file, compression="gzip" if is_gzip(file) else None)


def _reader(content, form, options, size):
    return pa.csv.open_csv(
        content,
        read_options=pa.csv.ReadOptions(block_size=size, use_threads=False),
        # Without threads it costs nothing to follow quoted cells over the ends of lines.
        parse_options=pa.csv.ParseOptions(delimiter=form.delimiter, newlines_in_values=True),
        convert_options=options,
    )


def first_types(file: str, form: CsvFormat) -> dict[str, pa.DataType]:
    """The types of the columns, by name, as far as the first megabytes tell.

    Raises:
      pa.ArrowException, OSError: a damaged file.
    """
    options = pa.csv.ConvertOptions(strings_can_be_null=True, decimal_point=form.decimal)
    size = _BLOCK_BYTES
    while True:
        try:
            with _opened(file) as content:
                schema = _reader(content, form, options, size).schema
                return dict(zip(schema.names, schema.types, strict=True))
        except pa.ArrowInvalid as error:
            size = _larger(size, error)


@dataclasses.dataclass
class Tally:
    """What the cells of a column of text spell, counted.

    Attributes:
      present: cells that are not missing.
      numbers: cells that are numbers.
      logical: cells that are true or false.
      grouped: cells that are numbers with marks between thousands.
      first_wrong: row, counted from 0, and text of the first that is neither a number nor true or
        false.
      first_logical: the same of the first that is true or false.
      first_grouped: the same of the first that has marks between thousands.
    """

    present: int = 0
    numbers: int = 0
    logical: int = 0
    grouped: int = 0
    first_wrong: tuple[int, str] | None = None
    first_logical: tuple[int, str] | None = None
    first_grouped: tuple[int, str] | None = None

    def add(self, column: pa.Array, row: int, decimal: str) -> None:
        """Counts some cells.

        Args:
          column: of text.
          row: number of the first.
          decimal: as in `CsvFormat`.
        """
        texts = trimmed(column)
        is_present = _and(pc.is_valid(texts), pc.not_equal(pc.binary_length(texts), 0))
        is_number = _and(is_present, pc.match_substring_regex(texts, _number_pattern(decimal)))
        is_logical = _and(is_present, pc.match_substring_regex(texts, _LOGICAL))
        is_grouped = pc.and_not(
            _and(is_present, pc.match_substring_regex(texts, _GROUPED)), is_number
        )
        is_wrong = pc.and_not(pc.and_not(is_present, is_number), is_logical)
        self.present += _count(is_present)
        self.numbers += _count(is_number)
        self.logical += _count(is_logical)
        self.grouped += _count(is_grouped)
        self.first_wrong = self.first_wrong or _first(column, is_wrong, row)
        self.first_logical = self.first_logical or _first(column, is_logical, row)
        self.first_grouped = self.first_grouped or _first(column, is_grouped, row)

    @property
    def is_logical(self) -> bool:
        """Whether most cells that mean something are true or false."""
        return self.logical > self.numbers

    @property
    def num_wrong(self) -> int:
        """Cells that are not what most are: numbers, or true and false."""
        return self.present - max(self.numbers, self.logical)

    @property
    def wrong(self) -> tuple[int, str] | None:
        """Row and text of the first of these."""
        return self.first_wrong if self.is_logical or self.first_wrong else self.first_logical


def trimmed(column: pa.Array) -> pa.Array:
    """Texts without white space around them; also of bytes that are no UTF-8."""
    return pc.ascii_trim_whitespace(
        column.cast(pa.string()) if not pa.types.is_string(column.type) else column
    )


def _number_pattern(decimal):
    return _NUMBER.replace(r"\.", ",") if decimal == "," else _NUMBER


def _and(first, second):
    return pc.and_(first, pc.fill_null(second, False))


def _count(mask):
    return pc.sum(mask).as_py() or 0


def _first(column, mask, row):
    place = pc.index(mask, True).as_py()
    if place < 0:
        return None
    return row + place, column[place].cast(pa.binary()).as_py().decode(errors="replace")


def with_dots(column: pa.Array) -> pa.Array:
    """Texts in which numbers with a decimal comma have a dot; all else stays."""
    is_number = pc.match_substring_regex(trimmed(column), _number_pattern(","))
    return pc.if_else(
        pc.fill_null(is_number, False), pc.replace_substring(column, ",", "."), column
    )


def first_with_dot(column: pa.Array, row: int) -> tuple[int, str] | None:
    """Row and text of the first number that has a dot, which a file of decimal commas does not; or
    none.

    Args:
      column: of text.
      row: number of the first cell.
    """
    texts = trimmed(column)
    is_number = pc.match_substring_regex(texts, _NUMBER)
    return _first(column, _and(is_number, pc.match_substring(texts, ".")), row)


# What a number with a comma or a dot says of the mark that is used: 1,5 is decimal, 1,234 may have
# thousands.
_PLAIN_MARK = r"^[+-]?\d*{mark}\d+(?i:e[+-]?\d+)?$"
_UNCLEAR_MARK = r"^[+-]?[1-9]\d{{0,2}}{mark}\d{{3}}$"
_BOTH_MARKS = r"^[+-]?\d{{1,3}}({other}\d{{3}})+{mark}\d+$"


_NUMBER_LIKE = (
    r"^[+-]?(?i:(\d+[.,]?\d*|[.,]\d+)(e[+-]?\d+)?|inf|infinity|nan)$"  # whatever its mark
)


def sniff_decimal(
    files: Sequence[str],
    delimiter: str,
    usual: str = "",
    columns: Collection[str] | None = None,
    hints: Hints = HINTS,
) -> str:
    """The decimal mark of files, by all cells of the columns of numbers.

    Columns of numbers alone decide; if these have no decimals, columns of numbers with a few texts
    among them, which may be mistakes. Columns of text decide nothing: a version 1.5 or a price 1,50
    in a remark is no number of the file.

    Args:
      files: paths of files of one kind.
      delimiter: between their columns, no comma.
      usual: the mark to take where the cells do not tell, or speak for both, as the training
        file's; or none.
      columns: names of those that are asked; `None` for all.
      hints: for the message.

    Raises:
      UserError: cells speak for both marks, or could be thousands; the message names them.
    """
    found: dict[str, _Marks] = {}
    for file in files:
        names = [name for name in header(file, delimiter) if columns is None or name in columns]
        types = dict.fromkeys(names, pa.string())
        for batch in batches(file, CsvFormat(delimiter), types, check_utf8=False) if names else ():
            for name in names:
                found.setdefault(name, _Marks()).add(batch[name])
    numbers = {name: marks for name, marks in found.items() if not marks.texts}
    mixed = {name: marks for name, marks in found.items() if 0 < 2 * marks.texts < marks.present}
    for group in (numbers, mixed):
        sure = _first_of_each({name: marks.sure for name, marks in group.items()})
        unclear = _first_of_each({name: marks.unclear for name, marks in group.items()})
        if len(sure) == 1:
            return next(iter(sure))
        if not sure and not unclear:
            continue
        if usual:
            return usual
        examples = " and ".join(
            f"{text!r} in column {name}" for name, text in (sure or unclear).values()
        )
        raise UserError(
            f"{files[0]} has {examples}: whether a comma or a dot stands before decimals is "
            f"unclear. {hints.decimal}"
        )
    return usual or "."


def _first_of_each(by_column):
    """For each mark the first column that has a cell for it, and the cell."""
    found = {}
    for mark in (",", "."):
        cells = [(name, cells[mark]) for name, cells in by_column.items() if mark in cells]
        if cells:
            found[mark] = cells[0]
    return found


@dataclasses.dataclass
class _Marks:
    """What the cells of a column say of the decimal mark.

    Attributes:
      present: cells that are not missing.
      texts: cells that are no number with either mark.
      sure: for each mark the first cell that speaks for it.
      unclear: for each mark the first cell that does, unless it has thousands.
    """

    present: int = 0
    texts: int = 0
    sure: dict[str, str] = dataclasses.field(default_factory=dict)
    unclear: dict[str, str] = dataclasses.field(default_factory=dict)

    def add(self, column: pa.Array) -> None:
        """Looks at some cells, of text."""
        texts = trimmed(column)
        is_present = _and(pc.is_valid(texts), pc.not_equal(pc.binary_length(texts), 0))
        is_plain, is_grouped = (
            pc.match_substring_regex(texts, pattern) for pattern in (_NUMBER_LIKE, _GROUPED)
        )
        self.present += _count(is_present)
        self.texts += _count(
            pc.and_not(is_present, pc.fill_null(pc.or_(is_plain, is_grouped), False))
        )
        for mark, other in ((",", r"\."), (r"\.", ",")):
            self._add(column, texts, mark, other)

    def _add(self, column, texts, mark, other):
        key = mark[-1]
        if key in self.sure or not pc.any(pc.match_substring(texts, key)).as_py():
            return
        is_plain, is_unclear, has_both = (
            pc.fill_null(
                pc.match_substring_regex(texts, pattern.format(mark=mark, other=other)), False
            )
            for pattern in (_PLAIN_MARK, _UNCLEAR_MARK, _BOTH_MARKS)
        )
        clear = _first(column, pc.or_(pc.and_not(is_plain, is_unclear), has_both), 0)
        doubtful = _first(column, is_unclear, 0)
        if clear:
            self.sure[key] = clear[1]
        if doubtful:
            self.unclear.setdefault(key, doubtful[1])
