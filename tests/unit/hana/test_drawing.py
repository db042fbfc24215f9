"""Vectors on a plane, and the page that shows them."""

from __future__ import annotations

from html.parser import HTMLParser

import numpy as np
import pytest

from hana_ai.api.hana.drawing import TableDrawing, projected
from hana_ai.api.hana.drawn_page import LONGEST, MARK
from hana_ai.api.hana.tables import VectorTableInfo

HOSTILE = "</script></button><img src=x onerror=alert(1)>\"'&\x00\ud800"


def test_the_longest_direction_comes_first_and_fills_the_side() -> None:
    rng = np.random.default_rng(5)
    plane = np.linalg.qr(rng.normal(size=(64, 3)))[0].T
    near_the_third = 10 * plane[2] + np.outer(rng.uniform(-2, 2, 200), plane[0])
    vectors = near_the_third + np.outer(rng.uniform(-0.5, 0.5, 200), plane[1])
    points, (first, second) = projected(vectors.tolist())
    x, y = np.array(points).T
    assert (x.min(), x.max()) == pytest.approx((-1, 1))
    assert y.max() == pytest.approx(-y.min())
    assert 0.9 < first < 1 and first + second == pytest.approx(1, abs=0.01)
    along = vectors @ plane[0] / np.linalg.norm(vectors, axis=1)
    assert abs(np.corrcoef(x, along)[0, 1]) > 0.999


def test_the_order_and_the_lengths_of_vectors_move_no_point() -> None:
    vectors = np.random.default_rng(1).normal(size=(30, 8))
    points = np.array(projected(vectors.tolist())[0])
    order = np.random.default_rng(2).permutation(30)
    scaled = vectors[order] * np.arange(1, 31)[:, None]
    assert np.array(projected(scaled.tolist())[0]) == pytest.approx(points[order], abs=1e-9)


@pytest.mark.parametrize("vectors", [[[1.0, 2.0]], [[0.0, 0.0]], [[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]]])
def test_documents_that_are_all_alike_lie_at_one_point(vectors: list[list[float]]) -> None:
    assert projected(vectors) == (((0.0, 0.0),) * len(vectors), (0.0, 0.0))


def test_two_documents_need_one_direction() -> None:
    points, shares = projected([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    assert np.array(sorted(points)) == pytest.approx(np.array([(-1.0, 0.0), (1.0, 0.0)]))
    assert shares == pytest.approx((1.0, 0.0))


class _Tags(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


def drawing(*documents: str, rows: int | None = None) -> TableDrawing:
    info = VectorTableInfo(
        schema="S", table="T<b>", vector_column="V", text_column="X", type="REAL_VECTOR", widths=(2, 2),
        rows=9, vectors=9, model="<i>m", known="stamp", generated=False, index=None,
    )  # fmt: skip
    points = tuple((0.0, 0.0) for _ in documents)
    return TableDrawing(info, documents, points, (0.5, 0.25), len(documents) if rows is None else rows)


def test_a_document_is_text_whatever_it_holds() -> None:
    page = drawing(HOSTILE, "harmless").html()
    assert page.splitlines()[0].endswith(MARK)
    found = _Tags(page)
    assert found.tags.count("script") == 1
    assert found.tags.count("circle") == found.tags.count("button") == 2
    assert not {"img", "b", "i"} & set(found.tags)
    assert "</script></button><img src=x onerror=alert(1)>\"'&" in found.text
    framed = drawing(HOSTILE)._repr_html_()
    assert _Tags(framed).tags == ["iframe"]


def test_the_page_says_what_it_leaves_out() -> None:
    page = drawing("x" * (LONGEST + 1), "y", rows=3000).html()
    assert "2 of 3,000 documents, rows at even distances" in page
    assert f"the first {LONGEST} characters" in page and "x" * LONGEST not in page
    whole = drawing("a").html()
    assert "All 1 documents" not in whole and "The only document" in whole
