"""A row of a file of persons, and the error for a file that cannot be read or written."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from bridge.model.faults import Fault
from bridge.persons.photos.sources import AttachedPhoto


class PersonFileError(Exception):
    """A file of persons cannot be read or written.

    The message gives the row, if there is one, the fault and the remedy. It contains neither the file's name nor
    anything of a person.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One person of a file, not yet checked.

    Attributes:
        number: of the row. In CSV the header is row 1 and blank rows count, as in a spreadsheet; a cell may contain
            line breaks. In JSON the person's position in the list, from 1.
        data: what `parse_person` takes, without the picture beside the table.
        picture: the picture beside the table that is named by the person's id; None for none.
        faults: what is wrong with the row itself; `data` then contains what could be read.
    """

    number: int
    data: Mapping[str, object] = field(repr=False)
    picture: AttachedPhoto | None
    faults: tuple[Fault, ...] = ()
