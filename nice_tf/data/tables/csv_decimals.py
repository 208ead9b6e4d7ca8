"""The decimal mark of CSV files, a dot or a comma, by the cells of their columns of numbers."""

import dataclasses
from collections.abc import Collection, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from nice_tf.data.tables import cells
from nice_tf.data.tables.csv_files import batches, header
from nice_tf.data.tables.csv_format import HINTS, CsvFormat, Hints
from nice_tf.errors import UserError

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
    numbers: dict[str, _Marks] = {}
    mixed: dict[str, _Marks] = {}
    for name, marks in _marks_of_columns(files, delimiter, columns).items():
        if not marks.texts:
            numbers[name] = marks
        elif marks.are_few_texts:
            mixed[name] = marks
    for group in (numbers, mixed):
        sure, unclear = _first_of_each_mark(group)
        if len(sure) == 1:
            (mark,) = sure
            return mark
        if not sure and not unclear:
            continue
        if usual:
            return usual
        raise UserError(
            f"{files[0]} has {_examples(sure or unclear)}: whether a comma or a dot stands before "
            f"decimals is unclear. {hints.decimal}"
        )
    return usual or "."


def _marks_of_columns(files, delimiter, columns):
    """By name, what the cells of each column say."""
    found: dict[str, _Marks] = {}
    for file in files:
        names = header(file, delimiter)
        if columns is not None:
            names = [name for name in names if name in columns]
        if not names:
            continue
        types = dict.fromkeys(names, pa.string())
        for batch in batches(file, CsvFormat(delimiter), types, check_utf8=False):
            for name in names:
                found.setdefault(name, _Marks()).add(batch[name])
    return found


def _first_of_each_mark(by_column):
    """For each mark the first column that has a cell for it, and the cell: cells that speak for it,
    and cells that do unless they have thousands.
    """
    sure: dict[str, tuple[str, str]] = {}
    unclear: dict[str, tuple[str, str]] = {}
    for name, marks in by_column.items():
        for mark, text in marks.sure.items():
            sure.setdefault(mark, (name, text))
        for mark, text in marks.unclear.items():
            unclear.setdefault(mark, (name, text))
    return sure, unclear


def _examples(cells_of_marks):
    """Cells and their columns in words, a comma before a dot."""
    words = []
    for _, (name, text) in sorted(cells_of_marks.items()):
        words.append(f"{text!r} in column {name}")
    return " and ".join(words)


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

    @property
    def are_few_texts(self) -> bool:
        """Whether there are texts among the numbers, but fewer than these."""
        return 0 < 2 * self.texts < self.present

    def add(self, column: pa.Array) -> None:
        """Looks at some cells, of text."""
        texts = cells.trimmed(column)
        is_present = cells.present(texts)
        is_plain = pc.match_substring_regex(texts, _NUMBER_LIKE)
        is_grouped = pc.match_substring_regex(texts, cells.GROUPED)
        is_number = pc.fill_null(pc.or_(is_plain, is_grouped), False)
        self.present += cells.count(is_present)
        self.texts += cells.count(pc.and_not(is_present, is_number))
        self._add_mark(column, texts, ",", mark=",", other=r"\.")
        self._add_mark(column, texts, ".", mark=r"\.", other=",")

    def _add_mark(self, column, texts, key, **marks):
        """What the cells say of one mark; `marks` are this and the other, as patterns have them."""
        if key in self.sure or not pc.any(pc.match_substring(texts, key)).as_py():
            return
        is_plain = _fits(texts, _PLAIN_MARK.format(**marks))
        is_unclear = _fits(texts, _UNCLEAR_MARK.format(**marks))
        has_both = _fits(texts, _BOTH_MARKS.format(**marks))
        clear = cells.first(column, pc.or_(pc.and_not(is_plain, is_unclear), has_both), 0)
        doubtful = cells.first(column, is_unclear, 0)
        if clear:
            self.sure[key] = clear[1]
        if doubtful:
            self.unclear.setdefault(key, doubtful[1])


def _fits(texts, pattern):
    return pc.fill_null(pc.match_substring_regex(texts, pattern), False)
