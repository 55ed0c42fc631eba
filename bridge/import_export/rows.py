"""One person of a file, as far as the file goes."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from bridge.model.faults import Fault
from bridge.persons.photos.sources import AttachedPhoto


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One person of a file, not checked yet.

    Attributes:
        number: of the row. In CSV the header is row 1 and blank rows count, as a spreadsheet shows it; a cell may hold
            line breaks. In JSON the person's position in the list, from 1.
        data: what `parse_person` takes, without the picture that lies beside the file.
        picture: what lies beside the file under the person's id; None for nothing.
        faults: what is wrong with the row as a row; `data` is then what could be read of it.
    """

    number: int
    data: Mapping[str, object] = field(repr=False)
    picture: AttachedPhoto | None
    faults: tuple[Fault, ...] = ()
