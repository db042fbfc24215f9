"""hana-ml, unmodified, over TCP."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
import pytest
from hana_ml.dataframe import ConnectionContext, DataFrame, create_dataframe_from_pandas
from hdbcli import dbapi

from hana_ai.api.local.hana.process import LocalHana

pytest_plugins = ["hana_ai.api.local.hana.pytest_plugin"]

PEOPLE = pd.DataFrame(
    {
        "ID": [1, 2, 3, 4, 5, 6],
        "NAME": ["Ann", "Bob", "Cid", "Dee", None, "Fay"],
        "Team": ["red", "blue", "red", "green", "blue", "red"],
        "SCORE": [1.5, 2.0, None, 4.25, 5.0, 0.5],
        "AGE": [30, 25, 41, 19, 33, 25],
    }
)


@pytest.fixture(scope="module")
def context(local_hana: LocalHana) -> Iterator[ConnectionContext]:
    connection = ConnectionContext(**local_hana.connection_options())
    yield connection
    connection.close()


@pytest.fixture
def people(context: ConnectionContext) -> DataFrame:
    return create_dataframe_from_pandas(
        context, PEOPLE, "PEOPLE", force=True, disable_progressbar=True, primary_key="ID"
    )


def test_the_context_knows_where_it_is(context: ConnectionContext, people: DataFrame) -> None:
    assert context.get_current_schema() == "DBADMIN"
    assert context.has_schema("DBADMIN")
    assert not context.has_schema("NOBODY")
    assert context.has_table("PEOPLE")
    assert not context.has_table("people")
    assert context.has_table("PEOPLE", schema="DBADMIN")
    assert "PEOPLE" in context.get_tables()["TABLE_NAME"].tolist()
    assert context.hana_version().startswith("4.")
    assert context.get_connection_id() is not None


def test_a_dataframe_comes_back_as_it_went(people: DataFrame) -> None:
    back = people.collect().sort_values("ID").reset_index(drop=True)
    assert back["NAME"].tolist()[:4] == PEOPLE["NAME"].tolist()[:4]
    assert back["NAME"].isna().tolist() == PEOPLE["NAME"].isna().tolist()
    np.testing.assert_allclose(back["SCORE"].astype(float), PEOPLE["SCORE"])
    assert people.columns == ["ID", "NAME", "Team", "SCORE", "AGE"]
    assert people.shape == [6, 5]
    assert people.count() == 6
    assert len(people.head(2).collect()) == 2


def test_types_are_those_of_the_table(people: DataFrame) -> None:
    structure = people.get_table_structure()
    assert structure["ID"] == "INT"
    assert structure["SCORE"] == "DOUBLE"
    assert structure["Team"] == "NVARCHAR(5000)"


def test_select_filter_sort(people: DataFrame) -> None:
    found = people.select("ID", ("AGE * 2", "DOUBLED")).filter("DOUBLED > 50").sort("ID", desc=True).collect()
    assert found["ID"].tolist() == [5, 3, 1]
    assert found["DOUBLED"].tolist() == [66, 82, 60]
    assert people.filter("\"Team\" = 'red'").count() == 3
    assert people.deselect("AGE").columns == ["ID", "NAME", "Team", "SCORE"]
    assert people.rename_columns({"AGE": "YEARS"}).columns[-1] == "YEARS"
    assert sorted(people.distinct("Team").collect()["Team"]) == ["blue", "green", "red"]
    assert people.sort_values("AGE").collect()["AGE"].tolist() == sorted(PEOPLE["AGE"])


def test_missing_values(people: DataFrame) -> None:
    assert people.fillna(0, ["SCORE"]).collect()["SCORE"].isna().sum() == 0
    assert people.dropna().count() == 4
    assert people.hasna("SCORE")
    assert not people.hasna("AGE")
    assert people.fillna("nobody", ["NAME"]).filter("NAME = 'nobody'").count() == 1


def test_aggregates(people: DataFrame) -> None:
    found = people.agg([("sum", "AGE", "TOTAL"), ("max", "SCORE", "BEST"), ("count", "ID", "N")], group_by="Team")
    frame = found.collect().set_index("Team").sort_index()
    expected = (
        PEOPLE.groupby("Team").agg(TOTAL=("AGE", "sum"), BEST=("SCORE", "max"), N=("ID", "count")).sort_index()
    )
    assert frame["TOTAL"].tolist() == expected["TOTAL"].tolist()
    assert frame["BEST"].tolist() == expected["BEST"].tolist()
    assert frame["N"].tolist() == expected["N"].tolist()
    np.testing.assert_allclose(
        float(people.agg([("avg", "AGE", "A")]).collect()["A"].iloc[0]), PEOPLE["AGE"].mean(), rtol=1e-5
    )
    np.testing.assert_allclose(
        float(people.agg([("stddev", "AGE", "A")]).collect()["A"].iloc[0]), PEOPLE["AGE"].std()
    )
    np.testing.assert_allclose(
        float(people.agg([("median", "AGE", "A")]).collect()["A"].iloc[0]), PEOPLE["AGE"].median()
    )


def test_joins_and_unions(people: DataFrame, context: ConnectionContext) -> None:
    teams = pd.DataFrame({"Team": ["red", "blue", "grey"], "CITY": ["Rom", "Bonn", "Gent"]})
    other = create_dataframe_from_pandas(context, teams, "TEAMS", force=True, disable_progressbar=True)
    joined = people.alias("P").join(other.alias("T"), 'P."Team" = T."Team"', select=[("P.ID", "ID"), "CITY"])
    assert joined.count() == 5
    left = people.set_index("Team").join(other.set_index("Team"), how="left")
    assert left.count() == 6
    assert left.filter("CITY IS NULL").count() == 1
    assert people.union(people).count() == 12
    assert people.union(people, all=False).count() == 6


def test_duplicates_ids_and_constants(people: DataFrame) -> None:
    assert people.drop_duplicates(["Team"]).count() == 3
    numbered = people.add_id("NR", ref_col="AGE").collect()
    assert sorted(numbered["NR"]) == [1, 2, 3, 4, 5, 6]
    assert people.add_constant("C", 7).collect()["C"].tolist() == [7] * 6
    assert people.add_constant("C", "x").collect()["C"].tolist() == ["x"] * 6


def test_casts_and_dtypes(people: DataFrame) -> None:
    cast = people.cast("AGE", "NVARCHAR(10)").cast({"SCORE": "DECIMAL(10,2)"})
    assert {name: kind for name, kind, *_ in cast.dtypes()}["AGE"] == "NVARCHAR"
    assert cast.filter("AGE = '30'").count() == 1
    assert people.is_numeric("AGE")
    assert not people.is_numeric("NAME")


def test_describe(people: DataFrame) -> None:
    for version in ("v1", "v2"):
        frame = people.describe(version=version).collect() if version == "v1" else people.describe().collect()
        described = frame.set_index("column" if "column" in frame.columns else frame.columns[0])
        assert int(described.loc["AGE", "count"]) == 6
        assert int(described.loc["SCORE", "nulls"]) == 1
        assert int(described.loc["Team", "unique"]) == 3
        np.testing.assert_allclose(float(described.loc["AGE", "mean"]), PEOPLE["AGE"].mean())
        np.testing.assert_allclose(float(described.loc["AGE", "std"]), PEOPLE["AGE"].std())
        np.testing.assert_allclose(float(described.loc["AGE", "25_percent_cont"]), PEOPLE["AGE"].quantile(0.25))


def test_pivot_table(people: DataFrame) -> None:
    pivoted = people.pivot_table(values="AGE", index="ID", columns="Team", aggfunc="max").collect()
    expected = PEOPLE.pivot_table(values="AGE", index="ID", columns="Team", aggfunc="max")
    for column in ("red", "blue", "green"):
        np.testing.assert_allclose(
            pivoted.set_index("ID").sort_index()[column].astype(float), expected[column].astype(float)
        )


def test_columns_and_expressions(people: DataFrame) -> None:
    assert people.mutate(NEXT_AGE=people.AGE + 1).filter("ID = 1").collect()["NEXT_AGE"].tolist() == [31]
    assert people.corr("AGE", "AGE").collect().iloc[0, 0] == pytest.approx(1.0)
    window = people.generate_feature(["AGE"], trans_func="LAG", trans_param=1, order_by="ID")
    assert window.collect().shape == (6, 6)


def test_save_and_upsert(people: DataFrame, context: ConnectionContext) -> None:
    saved = people.filter("AGE < 31").save("YOUNG", force=True)
    assert saved.count() == 4
    people.filter("AGE >= 31").save("YOUNG", append=True)
    assert context.table("YOUNG").count() == 6
    people.save("PEOPLE_VIEW", table_type="VIEW", force=True)
    assert context.table("PEOPLE_VIEW").count() == 6
    more = pd.DataFrame(
        {"ID": [6, 7], "NAME": ["Fey", "Gus"], "Team": ["red", "red"], "SCORE": [1.0, 2.0], "AGE": [26, 50]}
    )
    frame = create_dataframe_from_pandas(context, more, "PEOPLE", upsert=True, disable_progressbar=True)
    assert frame.count() == 7
    assert frame.filter("ID = 6").collect()["NAME"].tolist() == ["Fey"]


def test_temporary_tables(people: DataFrame, context: ConnectionContext) -> None:
    temporary = people.filter("ID > 4").save("#SOME", force=True)
    assert temporary.count() == 2
    assert context.has_table("#SOME")
    created = create_dataframe_from_pandas(context, PEOPLE, "#OTHER", force=True, disable_progressbar=True)
    assert created.count() == 6
    assert "#OTHER" in context.get_temporary_tables()["TABLE_NAME"].tolist()
    context.drop_table("#OTHER")
    assert not context.has_table("#OTHER")


def test_tables_from_the_context(context: ConnectionContext) -> None:
    context.create_table("MADE", table_structure={"A": "INT", "B": "NVARCHAR(10)", "V": "REAL_VECTOR(3)"})
    assert context.table("MADE").columns == ["A", "B", "V"]
    context.add_primary_key("MADE", "A")
    context.drop_primary_key("MADE")
    context.truncate_table("MADE")
    context.drop_table("MADE")
    assert not context.has_table("MADE")
    context.create_schema("OTHER_SCHEMA")
    assert context.has_schema("OTHER_SCHEMA")


def test_lower_case_names_and_two_cases_of_one_name(context: ConnectionContext) -> None:
    frame = pd.DataFrame({"a": [1, 2], "A": [3, 4], "select": ["x", "y"]})
    back = create_dataframe_from_pandas(context, frame, "lower case", force=True, disable_progressbar=True)
    found = back.collect().sort_values("a")
    assert found.columns.tolist() == ["a", "A", "select"]
    assert found["A"].tolist() == [3, 4]


def test_dates_and_booleans(context: ConnectionContext) -> None:
    frame = pd.DataFrame(
        {
            "ID": [1, 2],
            "AT": pd.to_datetime(["2024-02-29 12:34:56", "1999-12-31 23:59:59"]),
            "OK": [True, False],
        }
    )
    made = create_dataframe_from_pandas(context, frame, "MOMENTS", force=True, disable_progressbar=True)
    back = made.collect().sort_values("ID")
    assert [value.isoformat(" ") for value in back["AT"]] == ["2024-02-29 12:34:56", "1999-12-31 23:59:59"]
    later = made.select(
        "ID", ("ADD_DAYS(AT, 1)", "NEXT"), ("DAYS_BETWEEN(AT, ADD_DAYS(AT, 5))", "D"), ("YEAR(AT)", "Y")
    )
    assert later.collect().sort_values("ID")["D"].tolist() == [5, 5]
    assert later.collect().sort_values("ID")["Y"].tolist() == [2024, 1999]


def test_vectors(context: ConnectionContext) -> None:
    frame = pd.DataFrame({"ID": [1, 2], "TXT": ["cat", "dog"], "V": ["[1,0,0]", "[0,1,0]"]})
    made = create_dataframe_from_pandas(
        context, frame, "VECS", force=True, disable_progressbar=True,
        table_structure={"ID": "INT", "TXT": "NVARCHAR(100)", "V": "REAL_VECTOR(3)"},
    )  # fmt: skip
    scored = (
        made.select("ID", ("COSINE_SIMILARITY(V, TO_REAL_VECTOR('[1,0,0]'))", "S")).sort("S", desc=True).collect()
    )
    assert scored["ID"].tolist() == [1, 2]
    embedded = made.add_vector("TXT", embed_col="E").select("ID", ("CARDINALITY(E)", "N")).collect()
    assert embedded["N"].tolist() == [256, 256]


def test_more_of_the_dataframe(people: DataFrame) -> None:
    numbers = people.select("ID", "AGE")
    assert numbers.max()["AGE"] == 41
    assert float(numbers.mean()["AGE"]) == pytest.approx(PEOPLE["AGE"].mean(), rel=1e-6)
    counts = people.value_counts(["Team"]).collect().set_index("VALUES")["NUM_Team"]
    assert counts["red"] == 3
    assert people.replace("red", "RED", None).filter("\"Team\" = 'RED'").count() == 3
    split = people.add_constant("S", "a,b").split_column("S", ",", ["x", "y"]).collect()
    assert (split["x"].iloc[0], split["y"].iloc[0]) == ("a", "b")
    assert people.concat_columns(["NAME", "Team"], "-").filter("ID = 1").collect().iloc[0, -1] == "Ann-red"
    assert people.tail(2, "ID").collect()["ID"].tolist() == [5, 6]
    assert numbers.diff("ID").collect()["AGE"].dropna().tolist() == PEOPLE["AGE"].diff().dropna().tolist()
    assert people.select("Team").set_operations(people.filter("ID < 2").select("Team"), op="except").count() == 2
    assert people.mutate(X=people.ID.isin([1, 2])).filter("X = 1").count() == 2
    assert people.generate_feature(["AGE"], agg_func="avg", group_by="Team").count() == 6
    assert people.to_head("AGE").columns[0] == "AGE"
    assert not people.has_constant_columns()


def test_keys_streams_and_vector_indexes(people: DataFrame, context: ConnectionContext) -> None:
    context.add_auto_incremented_key("PEOPLE", "NR")
    assert sorted(context.table("PEOPLE").collect()["NR"]) == [1, 2, 3, 4, 5, 6]
    context.update_streams_data("PEOPLE", key="ID", data={"ID": 6, "NAME": "Zed"})
    context.connection.setautocommit(True)
    assert context.table("PEOPLE").filter("ID = 6").collect()["NAME"].tolist() == ["Zed"]
    context.create_table("INDEXED", table_structure={"T": "NVARCHAR(99)", "V": "REAL_VECTOR(256)"})
    context.create_vector_index("BY_V", "INDEXED", "V")
    with context.connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO INDEXED SELECT T, VECTOR_EMBEDDING(T, 'DOCUMENT', 'SAP_NEB.20240715') FROM "
            "(SELECT 'a small cat' AS T FROM DUMMY UNION ALL SELECT 'stock market' AS T FROM DUMMY)"
        )
    nearest = context.table("INDEXED").sort_by_similarity("V", "kitten").collect()
    assert nearest["T"].iloc[0] == "a small cat"
    context.drop_vector_index("BY_V")
    context.drop_table("INDEXED")


def test_errors_have_hanas_classes(context: ConnectionContext) -> None:
    with pytest.raises(dbapi.ProgrammingError) as caught:
        context.sql("SELECT * FROM MISSING_TABLE").collect()
    assert caught.value.errorcode == 259
    with pytest.raises(dbapi.NotSupportedError) as refused:
        context.sql("SELECT * FROM DUMMY FOR JSON").collect()
    assert refused.value.errorcode == 7
