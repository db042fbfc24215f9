"""sqlalchemy-hana, unmodified, over TCP: DDL, reflection, ORM."""

from __future__ import annotations

import datetime as dt
import decimal
from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from sqlalchemy import exc, orm
from sqlalchemy_hana import types as hana_types
from sqlalchemy_hana.elements import Upsert

from hana_ai.api.local.hana.process import LocalHana

pytest_plugins = ["hana_ai.api.local.hana.pytest_plugin"]


class Base(orm.DeclarativeBase):
    pass


class Author(Base):
    __tablename__ = "author"
    id: orm.Mapped[int] = orm.mapped_column(sa.Identity(), primary_key=True)
    name: orm.Mapped[str] = orm.mapped_column(sa.String(100), unique=True)
    born: orm.Mapped[dt.date | None]
    books: orm.Mapped[list[Book]] = orm.relationship(back_populates="author", cascade="all, delete-orphan")


class Book(Base):
    __tablename__ = "book"
    __table_args__ = (sa.CheckConstraint("pages > 0", name="positive_pages"), sa.Index("by_title", "title"))
    id: orm.Mapped[int] = orm.mapped_column(sa.Sequence("book_seq", start=10), primary_key=True)
    title: orm.Mapped[str] = orm.mapped_column(sa.String(200))
    pages: orm.Mapped[int | None]
    price: orm.Mapped[decimal.Decimal | None] = orm.mapped_column(sa.Numeric(10, 2))
    rating: orm.Mapped[float | None]
    bound: orm.Mapped[bool | None]
    text: orm.Mapped[str | None] = orm.mapped_column(sa.Text)
    raw: orm.Mapped[bytes | None] = orm.mapped_column(sa.LargeBinary)
    bought: orm.Mapped[dt.datetime | None]
    at: orm.Mapped[dt.time | None]
    vector: orm.Mapped[list[float] | None] = orm.mapped_column(hana_types.REAL_VECTOR(length=3))
    author_id: orm.Mapped[int | None] = orm.mapped_column(sa.ForeignKey("author.id", ondelete="CASCADE"))
    author: orm.Mapped[Author | None] = orm.relationship(back_populates="books")


@pytest.fixture(scope="module")
def engine(local_hana: LocalHana) -> Iterator[sa.Engine]:
    url = sa.URL.create(
        "hana", local_hana.user, local_hana.password, local_hana.address, local_hana.port
    )  # fmt: skip
    made = sa.create_engine(url)
    yield made
    made.dispose()


@pytest.fixture
def tables(engine: sa.Engine) -> Iterator[sa.Engine]:
    Base.metadata.drop_all(engine)
    Base.metadata.create_all(engine)
    yield engine
    Base.metadata.drop_all(engine)


def test_an_orm_round_trip(tables: sa.Engine) -> None:
    with orm.Session(tables) as session:
        author = Author(name="Ann", born=dt.date(1970, 2, 3))
        author.books.append(
            Book(
                title="Astral 😀",
                pages=7,
                price=decimal.Decimal("12.50"),
                rating=4.5,
                bound=True,
                text="x" * 20_000,
                raw=b"\x00\xff",
                bought=dt.datetime(2024, 2, 29, 1, 2, 3, 456000),
                at=dt.time(4, 5, 6),
                vector=[1.0, 2.0, 0.5],
            )
        )
        author.books.append(Book(title="Second"))
        session.add(author)
        session.commit()
    with orm.Session(tables) as session:
        found = session.scalars(sa.select(Author).where(Author.name == "Ann")).one()
        assert found.id == 1
        assert found.born == dt.date(1970, 2, 3)
        first, second = sorted(found.books, key=lambda book: book.title)
        assert (first.id, second.id) == (10, 11)
        assert first.price == decimal.Decimal("12.50")
        assert first.text == "x" * 20_000
        assert first.raw == b"\x00\xff"
        assert first.bought == dt.datetime(2024, 2, 29, 1, 2, 3, 456000)
        assert first.at == dt.time(4, 5, 6)
        assert first.bound is True
        assert list(first.vector or []) == [1.0, 2.0, 0.5]
        assert second.price is None
        first.pages = 8
        session.commit()
        assert session.scalar(sa.select(sa.func.sum(Book.pages))) == 8
        session.delete(found)
        session.commit()
        assert session.scalar(sa.select(sa.func.count()).select_from(Book)) == 0


def test_nested_transactions(tables: sa.Engine) -> None:
    with orm.Session(tables) as session:
        session.add(Author(name="kept"))
        with session.begin_nested():
            session.add(Author(name="kept, too"))
            with pytest.raises(exc.IntegrityError), session.begin_nested():
                session.add(Author(name="kept"))
                session.flush()
        with session.begin_nested() as inner:
            session.add(Author(name="lost"))
            session.flush()
            inner.rollback()
        session.commit()
        assert sorted(session.scalars(sa.select(Author.name))) == ["kept", "kept, too"]


def test_a_test_of_ones_own_leaves_nothing(tables: sa.Engine) -> None:
    # The recipe by which suites run each test inside one transaction that is rolled back.
    with tables.connect() as connection, connection.begin() as outer:
        with orm.Session(connection, join_transaction_mode="create_savepoint") as session:
            session.add(Author(name="a test's"))
            session.commit()
            session.add(Author(name="another"))
            session.rollback()
            assert session.scalars(sa.select(Author.name)).all() == ["a test's"]
        outer.rollback()
    with orm.Session(tables) as session:
        assert session.scalars(sa.select(Author.name)).all() == []


@pytest.mark.parametrize("level", ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"])
def test_isolation_levels(tables: sa.Engine, level: str) -> None:
    with tables.connect().execution_options(isolation_level=level) as connection:
        assert connection.get_isolation_level() == level
        count = sa.select(sa.func.count()).select_from(Author)
        before = connection.scalar(count)
        with orm.Session(tables) as session:
            session.add(Author(name="meanwhile"))
            session.commit()
        assert (connection.scalar(count) == before) == (level != "READ COMMITTED")
    with tables.connect() as connection:
        assert connection.get_isolation_level() == "READ COMMITTED"


def test_queries(tables: sa.Engine) -> None:
    with orm.Session(tables) as session:
        for number in range(1, 11):
            session.add(Book(title=f"Book {number}", pages=number, rating=number / 2))
        session.commit()
        page = session.scalars(sa.select(Book.pages).order_by(Book.pages.desc()).limit(3).offset(2)).all()
        assert page == [8, 7, 6]
        parity = sa.func.mod(Book.pages, sa.literal_column("2"))
        grouped = session.execute(
            sa.select(parity, sa.func.count(), sa.func.avg(Book.rating)).group_by(parity)
        ).all()
        assert sorted((int(row[0]), row[1]) for row in grouped) == [(0, 5), (1, 5)]
        assert session.scalar(sa.select(sa.func.count()).where(Book.title.like("Book 1%"))) == 2
        assert session.scalars(sa.select(Book.pages).where(Book.pages.in_([2, 3])).order_by(Book.pages)).all() == [
            2,
            3,
        ]
        numbered = sa.select(
            Book.pages, sa.func.row_number().over(order_by=Book.pages.desc()).label("n")
        ).subquery()
        assert session.scalar(sa.select(numbered.c.pages).where(numbered.c.n == 1)) == 10
        case = sa.case(
            (Book.pages > sa.literal_column("5"), sa.literal_column("'thick'")), else_=sa.literal_column("'thin'")
        )
        assert sorted(session.execute(sa.select(case, sa.func.count()).group_by(case)).all()) == [
            ("thick", 5),
            ("thin", 5),
        ]
        exists = sa.exists().where(Book.pages == 4)
        assert session.scalar(sa.select(sa.literal(1)).where(exists)) == 1
        union = sa.union_all(
            sa.select(Book.pages).where(Book.pages == 1), sa.select(Book.pages).where(Book.pages == 2)
        )
        assert sorted(session.scalars(union)) == [1, 2]
        cte = sa.select(Book.pages).where(Book.pages > 8).cte("big")
        assert session.scalar(sa.select(sa.func.count()).select_from(cte)) == 2
        assert session.execute(sa.update(Book).where(Book.pages > 8).values(pages=Book.pages * 10)).rowcount == 2
        assert session.execute(sa.delete(Book).where(Book.pages > 50)).rowcount == 2
        session.rollback()
        assert session.scalar(sa.select(sa.func.max(Book.pages))) == 10


def test_reflection(tables: sa.Engine) -> None:
    inspector = sa.inspect(tables)
    assert {"author", "book"} <= set(inspector.get_table_names())
    assert inspector.has_table("book")
    assert not inspector.has_table("nothing")
    columns = {column["name"]: column for column in inspector.get_columns("book")}
    assert isinstance(columns["title"]["type"], sa.NVARCHAR)
    assert columns["title"]["type"].length == 200
    assert columns["title"]["nullable"] is False
    assert isinstance(columns["price"]["type"], sa.DECIMAL)
    assert (columns["price"]["type"].precision, columns["price"]["type"].scale) == (10, 2)
    assert isinstance(columns["text"]["type"], hana_types.NCLOB)
    assert isinstance(columns["vector"]["type"], hana_types.REAL_VECTOR)
    assert columns["vector"]["type"].length == 3
    assert inspector.get_pk_constraint("book")["constrained_columns"] == ["id"]
    (foreign,) = inspector.get_foreign_keys("book")
    assert foreign["referred_table"] == "author"
    assert foreign["constrained_columns"] == ["author_id"]
    assert foreign["options"]["ondelete"] == "CASCADE"
    assert [index["name"] for index in inspector.get_indexes("book")] == ["by_title"]
    assert [item["column_names"] for item in inspector.get_unique_constraints("author")] == [["name"]]
    assert [item["name"] for item in inspector.get_check_constraints("book")] == ["positive_pages"]
    assert "book_seq" in inspector.get_sequence_names()
    assert "dbadmin" in inspector.get_schema_names()
    metadata = sa.MetaData()
    metadata.reflect(tables, only=["author", "book"])
    assert set(metadata.tables) == {"author", "book"}


def test_views_comments_and_quoted_names(engine: sa.Engine) -> None:
    metadata = sa.MetaData()
    table = sa.Table(
        "Mixed Case", metadata, sa.Column(sa.quoted_name("id", True), sa.Integer, primary_key=True),
        sa.Column("ID", sa.String(5)),
        sa.Column("Value", sa.Integer, comment="a column"), comment="a table",
    )  # fmt: skip
    with engine.begin() as connection:
        metadata.drop_all(connection)
        metadata.create_all(connection)
        connection.execute(sa.insert(table), [{"id": 1, "ID": "x", "Value": 3}, {"id": 2, "ID": "y", "Value": 4}])
        connection.execute(sa.text('CREATE VIEW mixed_view AS SELECT "Value" AS v FROM "Mixed Case"'))
        assert connection.execute(sa.text("SELECT SUM(v) FROM mixed_view")).scalar() == 7
        inspector = sa.inspect(connection)
        assert inspector.get_table_comment("Mixed Case") == {"text": "a table"}
        assert inspector.get_columns("Mixed Case")[2]["comment"] == "a column"
        assert "mixed_view" in inspector.get_view_names()
        assert "Mixed Case" in (inspector.get_view_definition("mixed_view") or "")
        assert inspector.get_columns("mixed_view")[0]["name"] == "v"
        connection.execute(sa.text("DROP VIEW mixed_view"))
        metadata.drop_all(connection)


def test_upsert(tables: sa.Engine) -> None:
    with tables.begin() as connection:
        statement = Upsert(Book.__table__).values(id=1, title="one").filter_by(id=1)
        connection.execute(statement)
        connection.execute(Upsert(Book.__table__).values(id=1, title="uno").filter_by(id=1))
        assert connection.execute(sa.select(Book.title)).scalars().all() == ["uno"]


def test_errors_become_sqlalchemys(tables: sa.Engine) -> None:
    with orm.Session(tables) as session:
        session.add(Author(name="Ann"))
        session.commit()
        session.add(Author(name="Ann"))
        with pytest.raises(exc.IntegrityError):
            session.commit()
        session.rollback()
        session.add(Book(title="orphan", author_id=99))
        with pytest.raises(exc.IntegrityError):
            session.commit()
        session.rollback()
        with pytest.raises(exc.ProgrammingError):
            session.execute(sa.text("SELECT * FROM nothing"))
        session.rollback()
        with pytest.raises(exc.DataError):
            session.execute(sa.insert(Author).values(name="x" * 101))


def test_isolation_levels_and_autocommit(engine: sa.Engine) -> None:
    with engine.connect() as connection:
        assert connection.get_isolation_level() == "READ COMMITTED"
    auto = engine.execution_options(isolation_level="AUTOCOMMIT")
    with auto.connect() as connection:
        assert connection.execute(sa.text("SELECT 1 FROM DUMMY")).scalar() == 1


def test_temporary_tables(engine: sa.Engine) -> None:
    metadata = sa.MetaData()
    table = sa.Table("#temp", metadata, sa.Column("a", sa.Integer), prefixes=["LOCAL TEMPORARY"])
    with engine.connect() as connection:
        table.create(connection)
        connection.execute(sa.insert(table), [{"a": 1}, {"a": 2}])
        assert connection.execute(sa.select(sa.func.count()).select_from(table)).scalar() == 2
        table.drop(connection)
