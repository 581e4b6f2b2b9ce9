"""Tables from the user, of any kind: rows as a stream, columns of text, label columns as numbers.

``rows(path, options)`` is the one reader of table files: labelled targets and predictions without labels stand on it.
"""

from reprogram.targets.tables.labels import Labels, read_labels, spelling_key
from reprogram.targets.tables.options import TableOptions
from reprogram.targets.tables.rows import TableRow, TableRows, rows
from reprogram.targets.tables.table import Table, is_missing, named, read_table

__all__ = [
    "Labels",
    "Table",
    "TableOptions",
    "TableRow",
    "TableRows",
    "is_missing",
    "named",
    "read_labels",
    "read_table",
    "rows",
    "spelling_key",
]
