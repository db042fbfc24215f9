"""Every kind of source becomes documents; what cannot be read has a name and a reason."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hdbcli import dbapi
from langchain_core.document_loaders import BaseLoader
from langchain_core.documents import Document

from hana_ai.api.embeddings import TogetherAIEmbeddings
from hana_ai.api.errors import TogetherAIInputError
from hana_ai.api.hana import IngestResult, ingest_documents
from hana_ai.api.hana.ingest.files import FileDocument, encoding_of
from hana_ai.api.local.together import ScriptedEngine
from tests.integration.hana.ingest.corpus import embedded, rows

Ingest = Callable[..., IngestResult]


@pytest.fixture
def ingest(connection: dbapi.Connection, embeddings: TogetherAIEmbeddings) -> Ingest:
    return lambda source, **options: ingest_documents(source, "T", connection, embedding=embeddings, **options)


def stored(connection: dbapi.Connection) -> dict[str, str]:
    """Texts by their source."""
    found = rows(connection, """SELECT JSON_VALUE("VEC_META", '$.source'), TO_NVARCHAR("VEC_TEXT") FROM "T" """)
    return {str(source): str(text) for source, text in found}


# --- encodings ---

_GERMAN = "Die Größe der Äpfel überrascht: süße Früchte für jedes Maß, schön grün und übergroß. " * 20
_RUSSIAN = "Столбцовое хранилище держит значения одного столбца рядом друг с другом в памяти. " * 20
_JAPANESE = "列ストアは、一つの列の値をまとめて保持し、集計を高速に処理します。" * 20


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        (_GERMAN, "utf-8"),
        (_GERMAN, "utf-8-sig"),
        (_GERMAN, "utf-16"),
        (_GERMAN, "utf-32"),
        (_GERMAN, "cp1252"),
        (_RUSSIAN, "cp1251"),
        (_RUSSIAN, "koi8-r"),
        (_JAPANESE, "shift_jis"),
        (_JAPANESE, "euc_jp"),
    ],
)
def test_texts_are_read_in_their_encoding(text: str, encoding: str, tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes(text.encode(encoding))
    assert "".join(FileDocument(path, "text.txt").texts()) == text


def test_long_texts_are_cut_between_lines_and_nothing_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "long.log"
    text = "".join(f"line {number} of a log with an ü\n" for number in range(150_000))
    path.write_text(text, encoding="utf-8")
    parts = list(FileDocument(path, "long.log").texts())
    assert len(parts) > 2
    assert "".join(parts) == text
    assert all(part.endswith("\n") for part in parts)
    assert encoding_of(path) == "utf-8"


# --- formats ---


def make_office(folder: Path) -> None:
    from openpyxl import Workbook
    from pptx import Presentation

    book = Workbook()
    book.active.append(["city", "people"])
    book.active.append(["Walldorf", 15_000])
    book.save(folder / "book.xlsx")
    slides = Presentation()
    slides.slides.add_slide(slides.slide_layouts[5]).shapes.title.text = "A title on a slide"
    slides.save(str(folder / "slides.pptx"))


_PDF = b"""%PDF-1.4
1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj
2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj
3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 300 144]/Contents 4 0 R/Resources<</Font<</F1 5 0 R>>>>>>endobj
4 0 obj<</Length 44>>stream
BT /F1 24 Tf 20 100 Td (Portable words) Tj ET
endstream endobj
5 0 obj<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>endobj
trailer<</Root 1 0 R>>
%%EOF
"""

_DOCX = {
    "[Content_Types].xml": '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types"><Default '
    'Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/><Override '
    'PartName="/word/document.xml" ContentType="application/vnd.openxmlformats-officedocument.wordprocessingml.'
    'document.main+xml"/></Types>',
    "_rels/.rels": '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">'
    '<Relationship Id="r1" '
    'Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument" '
    'Target="word/document.xml"/></Relationships>',
    "word/document.xml": '<w:document xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"><w:body>'
    "<w:p><w:r><w:t>Words of a letter</w:t></w:r></w:p></w:body></w:document>",
}


def write_office(folder: Path) -> None:
    import zipfile

    with zipfile.ZipFile(folder / "letter.docx", "w") as archive:
        for name, text in _DOCX.items():
            archive.writestr(name, text)
    make_office(folder)
    (folder / "page.html").write_text(
        "<html><body><h1>A page</h1><script>no()</script><p>Of the web</p></body></html>"
    )
    (folder / "table.csv").write_text("fruit,weight\napple,120\n")
    (folder / "paper.pdf").write_bytes(_PDF)
    (folder / "notes.md").write_text("# Notes\n\nPlain *Markdown*.\n")
    (folder / "broken.pdf").write_bytes(b"%PDF-1.4 nothing else")
    (folder / "broken.docx").write_bytes(b"no archive")
    (folder / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR")


@pytest.mark.filterwarnings("ignore")
def test_each_format_is_converted_and_what_is_damaged_is_named(
    tmp_path: Path, ingest: Ingest, connection: dbapi.Connection
) -> None:
    pytest.importorskip("markitdown")
    write_office(tmp_path)
    done = ingest(tmp_path)
    found = stored(connection)
    for name, words in {
        "letter.docx": "Words of a letter",
        "book.xlsx": "Walldorf",
        "slides.pptx": "A title on a slide",
        "page.html": "# A page",
        "table.csv": "| apple | 120 |",
        "paper.pdf": "Portable words",
        "notes.md": "Plain *Markdown*.",
    }.items():
        assert words in found[name], name
    assert "no()" not in found["page.html"]
    problems = dict(done.problems)
    assert problems.keys() == {"broken.pdf", "broken.docx", "picture.png"}
    assert problems["picture.png"] == "neither text nor a known document format (.png)"
    assert problems["broken.docx"].startswith("damaged, or not what its name says")


# --- rows ---


@pytest.fixture
def people(connection: dbapi.Connection) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            'CREATE COLUMN TABLE "NOTES" ("A" INTEGER, "B" NVARCHAR(10), "TEXT" NVARCHAR(100), "ON" DATE, '
            'PRIMARY KEY ("A", "B"))'
        )
        cursor.executemany(
            'INSERT INTO "NOTES" VALUES (?, ?, ?, ?)',
            [(number // 3, f"b{number % 3}", f"note {number}", date(2026, 1, 1)) for number in range(2_500)],
        )


@pytest.mark.usefixtures("people")
def test_a_table_of_hana_is_read_by_its_key_and_only_its_changes_are_embedded(
    ingest: Ingest, connection: dbapi.Connection, engine: ScriptedEngine
) -> None:
    wanted: dict[str, Any] = {"text_columns": ["TEXT"], "metadata_columns": ["ON"]}
    done = ingest("hana:NOTES", **wanted)
    assert (done.progress.written, done.progress.total) == (2_500, 2_500)
    assert stored(connection)["NOTES/833/b0"] == "note 2499"
    metadata = """SELECT JSON_VALUE("VEC_META", '$.ON'), JSON_VALUE("VEC_META", '$.A') FROM "T" """
    assert rows(connection, metadata + """WHERE JSON_VALUE("VEC_META", '$.source') = 'NOTES/1/b2'""") == [
        ("2026-01-01", "1")
    ]
    with connection.cursor() as cursor:
        cursor.execute("""UPDATE "NOTES" SET "TEXT" = 'changed' WHERE "A" = 700 AND "B" = 'b1'""")
        cursor.execute("""DELETE FROM "NOTES" WHERE "A" = 701""")
    engine.requests.clear()
    again = ingest("hana:NOTES", sync=True, **wanted)
    assert dict(embedded(engine)) == {"changed": 1}
    assert (again.progress.unchanged, again.removed) == (2_496, 3)


@pytest.mark.usefixtures("people")
def test_a_query_needs_a_key_that_no_two_rows_share(ingest: Ingest, connection: dbapi.Connection) -> None:
    query = 'SELECT "A", "B", "TEXT" FROM "NOTES" WHERE "A" < 400'
    with pytest.raises(TogetherAIInputError, match="no primary key"):
        ingest(query, text_columns=["TEXT"])
    with pytest.raises(TogetherAIInputError, match="Two rows have the same A"):
        ingest(query, text_columns=["TEXT"], key_columns=["A"])
    with pytest.raises(TogetherAIInputError, match=r"no column 'NO' .* A, B, TEXT"):
        ingest(query, text_columns=["NO"], key_columns=["A"])
    with pytest.raises(TogetherAIInputError, match="cannot be read"):
        ingest("SELECT * FROM NOWHERE", text_columns=["TEXT"])
    done = ingest(query + ";", text_columns=["TEXT", "B"], key_columns=["A", "B"], name="notes")
    assert done.progress.written == 1_200
    assert stored(connection)["notes/0/b1"] == "TEXT: note 1\nB: b1"


def test_rows_without_a_key_are_counted(ingest: Ingest, connection: dbapi.Connection) -> None:
    with connection.cursor() as cursor:
        cursor.execute('CREATE COLUMN TABLE "LOOSE" ("K" INTEGER, "TEXT" NVARCHAR(100))')
        cursor.executemany('INSERT INTO "LOOSE" VALUES (?, ?)', [(1, "one"), (None, "none"), (None, "nor this")])
    done = ingest("hana:LOOSE", text_columns=["TEXT"], key_columns=["K"])
    assert done.progress.written == 1
    assert done.problems == (("LOOSE", "2 rows without a value in K"),)


@pytest.mark.usefixtures("people")
def test_a_dataframe_of_hana_ml_is_streamed(ingest: Ingest, context: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = context.sql('SELECT "A", "B", "TEXT" FROM "NOTES"').filter('"A" < 5')
    monkeypatch.setattr(type(frame), "collect", lambda *_, **__: pytest.fail("collected"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        done = ingest(frame, text_columns=["TEXT"], key_columns=["A", "B"])
    assert done.progress.written == 15


RECORDS = [
    {"k": number, "text": f"row {number}", "price": Decimal("1.50"), "gone": None} for number in range(1_300)
]


def frames(tmp_path: Path) -> Iterator[tuple[str, Any]]:
    import pandas

    yield "pandas", pandas.DataFrame(RECORDS)
    polars = pytest.importorskip("polars")
    yield "polars", polars.DataFrame(RECORDS)
    pyarrow = pytest.importorskip("pyarrow")
    table = pyarrow.Table.from_pylist(RECORDS)
    yield "pyarrow", table
    yield "reader", table.to_reader(max_chunksize=100)
    from pyarrow import parquet

    parquet.write_table(table, tmp_path / "rows.parquet", row_group_size=500)
    yield "parquet", str(tmp_path / "rows.parquet")


def test_frames_tables_and_parquet_give_the_same_rows(
    tmp_path: Path, ingest: Ingest, connection: dbapi.Connection, engine: ScriptedEngine
) -> None:
    wanted: dict[str, Any] = {
        "text_columns": ["text"],
        "key_columns": ["k"],
        "metadata_columns": ["price", "gone"],
    }
    for kind, frame in frames(tmp_path):
        done = ingest(frame, name="rows", **wanted)
        assert done.progress.documents == 1_300, kind
        assert done.progress.written == (1_300 if kind == "pandas" else 0), kind
    assert sum(embedded(engine).values()) == 1_300
    assert stored(connection)["rows/1299"] == "row 1299"


def test_a_frame_without_a_key_is_known_by_its_content(ingest: Ingest, connection: dbapi.Connection) -> None:
    import pandas

    frame = pandas.DataFrame({"text": ["a", "b", "b", "", None]})
    done = ingest(frame, text_columns=["text"])
    assert done.progress.documents == 5
    assert rows(connection, 'SELECT COUNT(*) FROM "T"') == [(2,)]
    assert ingest(frame.iloc[:1], text_columns=["text"]).removed == 2


class Loader(BaseLoader):
    def lazy_load(self) -> Iterator[Document]:
        yield from (Document(f"text {number}", metadata={"source": "loader"}) for number in range(10))


def test_loaders_and_iterables_of_documents(ingest: Ingest, connection: dbapi.Connection) -> None:
    assert ingest(Loader()).progress.written == 10
    done = ingest([Document("alone"), "no document"])
    assert done.problems == (("documents[1]", "a str, not a Document"),)
    assert rows(connection, 'SELECT COUNT(*) FROM "T"') == [(11,)]


def test_what_is_no_source_is_refused(ingest: Ingest, tmp_path: Path) -> None:
    with pytest.raises(TogetherAIInputError, match="no file or folder"):
        ingest(tmp_path / "nowhere")
    with pytest.raises(TogetherAIInputError, match="A int is no source"):
        ingest(5)
