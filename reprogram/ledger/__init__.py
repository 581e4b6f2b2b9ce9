"""Calls that cost: counted before they are sent, kept when answered, budgeted, cached and resumable.

A query to a black-box model and a call of an oracle are the same thing: items go in, answers come
out, and every *new* item is paid for. :class:`Ledger` stands in front of any function that answers a batch.

Three promises hold whenever the process dies: an answered call is never paid for again, the budget is never exceeded,
and a deterministic caller that starts over sees the same answers and the same counts as the first time.
"""

from reprogram.ledger.book import Book, Call, JournalLines, NamedRows, Rows
from reprogram.ledger.budget import EVALUATION, TRAINING, Budget
from reprogram.ledger.database import AnswerStore
from reprogram.ledger.ledger import Charge, Ledger
from reprogram.ledger.outcomes import Failed, Refused, content_key

__all__ = [
    "EVALUATION",
    "TRAINING",
    "AnswerStore",
    "Book",
    "Budget",
    "Call",
    "Charge",
    "Failed",
    "JournalLines",
    "Ledger",
    "NamedRows",
    "Refused",
    "Rows",
    "content_key",
]
