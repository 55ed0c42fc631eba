"""An export can be imported again without a difference."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import update

from bridge.model.commands import SetPersons
from bridge.model.person import WEEKDAYS
from bridge.persons.changes import CopySource
from bridge.store.person_queries import page
from bridge.store.tables import PHOTO as PHOTO_TABLE
from tests.import_export.transfer_system import transfer_system
from tests.persons.person_system import OTHER_PHOTO, PHOTO, person
from tests.support.core import known_terminal

IDS = st.from_regex(r"[A-Za-z0-9_.@-]{1,12}", fullmatch=True)
TEXT = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=20)
HOURS = st.sampled_from(["", "09:00-17:00", "00:00-23:59", "08:00-12:00;13:00-18:30"])
MOMENTS = st.none() | st.integers(0, 2_000_000_000) | st.floats(0, 2e9).map(lambda seconds: round(seconds, 3))
PERSONS = st.lists(
    st.fixed_dictionaries(
        {"id": IDS, "name": TEXT, "photo": st.sampled_from([PHOTO, OTHER_PHOTO])},
        optional={
            "card": st.none() | TEXT,
            "id_number": st.none() | TEXT,
            "valid_from": MOMENTS,
            "pass_count": st.none() | st.integers(0, 9999),
            "visitor": st.booleans(),
            "weekly": st.none() | st.fixed_dictionaries(dict.fromkeys(WEEKDAYS, HOURS)),
            "enabled": st.booleans(),
        },
    ),
    min_size=1,
    max_size=8,
    unique_by=lambda person: str(person["id"]),
)


@settings(max_examples=25)
@given(persons=PERSONS, name=st.sampled_from(["out.csv", "out.json", "out.zip"]), pictures=st.booleans())
async def test_an_export_imports_again_without_a_difference(
    persons: list[dict[str, Any]], name: str, pictures: bool
) -> None:
    with TemporaryDirectory() as folder:
        async with transfer_system(Path(folder)) as system:
            await system.person_system.set(*persons)
            photos = Path(folder) / "pictures" if pictures and name != "out.zip" else None
            exported = await system.export(name, photos=photos)
            assert exported.persons == len(persons)
            file = system.folder / name
            _, differences = await system.check(file, photos=photos, prune=True)
            assert not differences.terminals
            assert not differences.faults
            if name != "out.csv" or photos is not None:
                await system.import_(file, ("T2",), photos=photos)
                shown = [list(await system.person_system.persons(sn)) for sn in ("T1", "T2")]
                assert [{**one, "changed_at": None} for one in shown[0]] == [
                    {**one, "changed_at": None} for one in shown[1]
                ]


async def test_the_export_of_a_group_has_the_persons_that_it_keeps(tmp_path: Path) -> None:
    terminals = [known_terminal("T1", groups=("staff",)), known_terminal("T2", groups=("staff",))]
    async with transfer_system(tmp_path, terminals=terminals) as system:
        await system.change_group("staff", SetPersons(persons=(person("1", name="Kept"), person("2"))))
        await system.person_system.set(person("1", name="On the terminal"), person("3"))
        await system.person_system.remove("2")
        exported = await system.export("out.zip", CopySource(group="staff"))
        assert exported.persons == 2
        _, differences = await system.check(tmp_path / "out.zip", (), group="staff", prune=True)
        assert differences.group is not None
        assert (differences.group.persons, differences.group.unchanged) == ([], 2)


async def test_an_unreadable_photo_is_reported(tmp_path: Path) -> None:
    async with transfer_system(tmp_path) as system:
        await system.person_system.set(person("1"), person("2", photo=OTHER_PHOTO))
        first, _ = await system.read(page, "T1", "", 10)
        assert first.person is not None
        lose = update(PHOTO_TABLE).where(PHOTO_TABLE.c.sha256 == first.person.photo).values(key_id="lost")
        await system.database.write(lambda connection: connection.execute(lose).rowcount)
        exported = await system.export("out.zip")
        assert (exported.persons, exported.unreadable) == (1, ["1"])
