"""hana_ai's own tools and stores that need no PAL, unmodified, over TCP.

The others (time-series checks, forecasting, accuracy measures, AutoML, outlier detection, PAL embeddings and
cross encoders) call PAL procedures, which the loopback server refuses; hana-ml already sees from the empty
SYS.AFL_FUNCTIONS that PAL is missing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from hana_ml.dataframe import ConnectionContext, create_dataframe_from_pandas

from hana_ai.api.local.hana.process import LocalHana

pytest_plugins = ["hana_ai.api.local.hana.pytest_plugin"]

# The toolkit and what it imports warn about their own future.
pytestmark = pytest.mark.filterwarnings("ignore")

SERIES = pd.DataFrame(
    {
        "ID": pd.date_range("2024-01-01", periods=10),
        "Y": [float(number) for number in range(10)],
        "G": ["a", "b"] * 5,
    }
)


@pytest.fixture(scope="module")
def context(local_hana: LocalHana) -> Iterator[ConnectionContext]:
    made = ConnectionContext(**local_hana.connection_options(), vectoroutputtype="list")
    create_dataframe_from_pandas(made, SERIES, "SERIES", force=True, disable_progressbar=True)
    numbered = SERIES.assign(ID=range(1, 11))
    create_dataframe_from_pandas(made, numbered, "NUMBERED", force=True, disable_progressbar=True)
    yield made
    made.close()


def test_embeddings_in_the_database(context: ConnectionContext) -> None:
    from hana_ai.vectorstore.embedding_service import HANAVectorEmbeddings

    embeddings = HANAVectorEmbeddings(context)
    assert len(embeddings.embed_query("a cat")) == 256
    assert [len(vector) for vector in embeddings.embed_documents(["a cat", "it's a dog"])] == [256, 256]


def test_the_vector_engine_finds_knowledge(context: ConnectionContext) -> None:
    from hana_ai.vectorstore.hana_vector_engine import HANAMLinVectorEngine

    engine = HANAMLinVectorEngine(context, "KNOWLEDGE")
    engine.upsert_knowledge(
        {
            "id": ["1", "2"],
            "description": ["time series forecast", "image classification"],
            "example": ["ts()", "img()"],
        }
    )
    engine.upsert_knowledge({"id": ["2"], "description": ["classify images"], "example": ["new()"]})
    assert engine.query("forecast sales over time") == "ts()"
    assert engine.query("classify pictures") == "new()"
    assert context.table("KNOWLEDGE").count() == 2


def test_fetching_data(context: ConnectionContext) -> None:
    from hana_ai.tools.hana_ml_tools.fetch_tools import FetchDataTool

    tool = FetchDataTool(context)
    assert "2024-01-02" in tool.run({"table_name": "SERIES", "top_n": 2})
    assert "2024-01-10" in tool.run({"table_name": "SERIES", "last_n": 1})


def test_a_query_becomes_a_table(context: ConnectionContext) -> None:
    from hana_ai.tools.hana_ml_tools.select_statement_to_table_tools import SelectStatementToTableTool

    SelectStatementToTableTool(context).run(
        {
            "select_statement": "SELECT G, SUM(Y) AS TOTAL FROM SERIES GROUP BY G",
            "table_name": "TOTALS",
            "force": "True",
        }
    )
    assert sorted(context.table("TOTALS").collect()["TOTAL"].tolist()) == [20.0, 25.0]


def test_splitting_a_table(context: ConnectionContext) -> None:
    from hana_ai.tools.hana_ml_tools.dataset_prep_tools import SplitTableForForecastingTool

    SplitTableForForecastingTool(context).run({
        "source_table": "SERIES", "order_by": "ID", "train_table": "TRAIN", "test_table": "TEST",
        "validation_table": "VALIDATION", "force": True,
    })  # fmt: skip
    parts = [context.table(name).count() for name in ("TRAIN", "TEST", "VALIDATION")]
    assert sum(parts) == 10
    assert context.table("TRAIN").collect()["ID"].max() < context.table("TEST").collect()["ID"].min()


def test_importing_a_file(context: ConnectionContext, tmp_path: Path) -> None:
    from hana_ai.tools.hana_ml_tools.dataset_prep_tools import ImportCSVToTableTool

    path = tmp_path / "data.csv"
    path.write_text("a,b\n1,x\n2,ä😀\n", encoding="utf-8")
    ImportCSVToTableTool(context).run({"csv_path": str(path), "table_name": "IMPORTED"})
    frame = context.table("IMPORTED").collect()
    assert frame.iloc[:, 1].tolist() == ["x", "ä😀"]


@pytest.mark.parametrize("table", ["SERIES", "NUMBERED"])
def test_future_tables(context: ConnectionContext, table: str) -> None:
    from hana_ai.tools.hana_ml_tools.ts_make_predict_table import TSMakeFutureTableTool

    answer = TSMakeFutureTableTool(context).run(
        {
            "train_table": table,
            "key": "ID",
            "periods": 3,
            "increment_type": "days",
            "predict_table": f"NEXT_{table}",
        }
    )
    assert "failed" not in answer.lower()
    assert context.table(f"NEXT_{table}").count() == 3
    assert context.table(f"NEXT_{table}").collect()["ID"].min() > context.table(table).collect()["ID"].max()


def test_future_tables_for_many_groups(context: ConnectionContext) -> None:
    from hana_ai.tools.hana_ml_tools.ts_make_predict_table import make_future_dataframe_for_massive_forecast

    frame = make_future_dataframe_for_massive_forecast(context.table("NUMBERED"), "ID", "G", 2).collect()
    assert len(frame) == 4


def test_charts_and_reports(context: ConnectionContext, tmp_path: Path) -> None:
    from hana_ai.tools.hana_ml_tools.ts_visualizer_tools import ForecastLinePlot

    answer = ForecastLinePlot(context).run(
        {
            "predict_result": "NUMBERED",
            "actual_table_name": "NUMBERED",
            "confidence": None,
            "output_dir": str(tmp_path),
        }
    )
    assert Path(json.loads(answer)["html_file"]).exists()


def test_the_model_storage_is_empty(context: ConnectionContext) -> None:
    from hana_ai.tools.hana_ml_tools.model_storage_tools import ListModels

    assert "NAME" in str(ListModels(context).run({}))
    assert context.has_table("HANAML_MODEL_STORAGE")


def test_the_sessions_identity(context: ConnectionContext) -> None:
    from hana_ai.tools.hana_ml_tools.utility import fetch_hana_session_context

    frame = fetch_hana_session_context(context.connection, ["APPLICATIONUSER", "CONN_ID", "NOTHING"])
    assert frame["NOTHING"].iloc[0] is None
    assert int(frame["CONN_ID"].iloc[0]) > 0


def test_the_toolkit_and_the_sql_database(context: ConnectionContext) -> None:
    from hana_ai.tools.toolkit import HANAMLToolkit
    from langchain_community.utilities import SQLDatabase

    assert len(HANAMLToolkit(context).get_tools()) > 30
    database = SQLDatabase(context.to_sqlalchemy())
    assert "CREATE TABLE" in database.get_table_info(["numbered"])
    assert database.run("SELECT COUNT(*) FROM NUMBERED") == "[(10,)]"


def test_what_needs_pal_says_so(context: ConnectionContext) -> None:
    from hana_ai.tools.hana_ml_tools.ts_check_tools import TimeSeriesCheck

    with pytest.raises(Exception, match="PAL is not installed"):
        TimeSeriesCheck(context).run({"table_name": "SERIES", "key": "ID", "endog": "Y"})
