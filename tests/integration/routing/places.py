"""Finds every place of a package that embeds, reranks, stores vectors or asks a model, by reading its source.

What counts is deliberately much: a place of a new release should rather be found in vain than be missed.
"""

from __future__ import annotations

import ast
import importlib.util
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

_BASES = re.compile(r"(Embeddings|Retriever|ChatModel|LLM|VectorStore|OpenAI)_?$|CrossEncoder|^Chat[A-Z]|Rerank")
"""Classes that something is derived from."""
_NAMES = re.compile(r"Embeddings$|CrossEncoder|Rerank|Retriever$|VectorEngine|VectorStore")
"""Classes that are defined."""
_METHODS = {
    "embed_query",
    "embed_documents",
    "aembed_query",
    "aembed_documents",
    "get_text_embedding_batch",
    "rerank",
}
"""Methods that are defined."""
_MAKES = re.compile(
    r"Embeddings_?$|CrossEncoder|Rerank|VectorEngine$|^HanaDB|^FAISS|VectorStore|embedding_model$|embed_query$"
    r"|^_?(create|build|init|initialize|setup)_\w*(agent|llm|model|executor|chain|toolkit)\w*$|^_sql_toolkit$|LLMChain$"
    r"|^(ChatOpenAI|OpenAI|ChatBedrock|ChatBedrockConverse|ChatGoogleGenerativeAI|ChatVertexAI)_?$"
    r"|^(AgentExecutor|SQLDatabaseToolkit|ZeroShotAgent|Mem0\w+|GenAIHubNativeClient|OpenAIClient|AsyncOpenAIClient)$"
)
"""Classes and functions that are called by their name."""
_ASKS = {
    "invoke", "ainvoke", "stream", "astream", "batch", "abatch", "generate", "agenerate", "predict_messages",
    "bind_tools", "with_structured_output", "embed_query", "embed_documents", "aembed_query",
    "aembed_documents", "rerank", "add_vector", "from_texts", "from_documents", "load_local", "add_texts",
    "add_documents", "similarity_search", "similarity_search_with_score", "max_marginal_relevance_search",
    "similarity_search_with_relevance_scores", "create_knowledge", "upsert_knowledge",
}  # fmt: skip
"""Methods that are called, of whatever."""
_MODELS = {"llm", "model", "chat_model", "language_model"}
"""Names that are called as functions."""
_ASKS_IF = {
    "predict": re.compile("encoder|rerank", re.IGNORECASE),
    "encode": re.compile("encoder|model|transformer|embed", re.IGNORECASE),
    "query": re.compile("store|vector|model|retriever", re.IGNORECASE),
    "run": re.compile("agent|chain|llm|executor|model", re.IGNORECASE),
    "bind": re.compile("llm|model", re.IGNORECASE),
}
"""Methods that are called of something with such a name."""
_NO_MODELS = {"create_model"}
"""Pydantic's."""
_SQL = re.compile(r"VECTOR_EMBEDDING|PAL_CROSSENCODER|TEXTEMBEDDING|TO_REAL_VECTOR|\bCALL \S*\{|CALL %s")
_TOP = "(module)"


@dataclass(frozen=True, order=True)
class Place:
    """A function or class that does one of these things."""

    module: str
    name: str
    line: int
    does: str
    path: Path


def places_in(package: str, *, leave_out: str = "") -> list[Place]:
    """The places of an installed package, one for each function or class, without some part of it."""
    spec = importlib.util.find_spec(package)
    assert spec is not None
    found: dict[tuple[str, str], Place] = {}
    assert spec.submodule_search_locations is not None
    for folder in spec.submodule_search_locations:
        for path in sorted(Path(folder).rglob("*.py")):
            inner = path.relative_to(folder).with_suffix("").parts
            module = ".".join([package, *inner]).removesuffix(".__init__")
            if leave_out and f"{module}.".startswith(f"{leave_out}."):
                continue
            tree = ast.parse(path.read_bytes())
            for name, line, does in _walk(tree, ()):
                before = found.get((module, name))
                if before is None:
                    found[module, name] = Place(module, name, line, does, path)
                elif does not in before.does.split(", "):
                    found[module, name] = replace(before, does=f"{before.does}, {does}")
    return sorted(found.values())


def _walk(node: ast.AST, inside: tuple[str, ...]) -> Iterator[tuple[str, int, str]]:
    """What is done below a node, with the qualified name of the function or class that does it."""
    docstring = _docstring(node)
    for child in ast.iter_child_nodes(node):
        if child is docstring:
            continue
        does = _does(child)
        inner = inside
        if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            inner = (*inside, child.name)
        if does:
            yield ".".join(inner) or _TOP, getattr(child, "lineno", 0), does
        yield from _walk(child, inner)


def _docstring(node: ast.AST) -> ast.stmt | None:
    body = getattr(node, "body", None)
    if isinstance(body, list) and body and isinstance(body[0], ast.Expr):
        value = body[0].value
        if isinstance(value, ast.Constant) and isinstance(value.value, str):
            return body[0]
    return None


def _does(node: ast.AST) -> str:
    if isinstance(node, ast.ClassDef):
        bases = [base for base in map(_last_name, node.bases) if _BASES.search(base)]
        return f"defines {node.name}" if bases or _NAMES.search(node.name) else ""
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        return f"defines {node.name}" if node.name in _METHODS else ""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        said = _SQL.search(node.value)
        return f"SQL with {said.group()}" if said else ""
    return _calls(node) if isinstance(node, ast.Call) else ""


def _calls(node: ast.Call) -> str:
    name = _last_name(node.func)
    if isinstance(node.func, ast.Attribute):
        owner = _last_name(node.func.value)
        if name in _ASKS or name in _MODELS or (name in _ASKS_IF and _ASKS_IF[name].search(owner)):
            return f"calls {owner}.{name}"
    makes = _MAKES.search(name) and name not in _NO_MODELS
    return f"calls {name}" if name in _MODELS or makes else ""


def _last_name(node: ast.AST) -> str:
    if isinstance(node, ast.Attribute):
        return node.attr
    if isinstance(node, ast.Call):
        return _last_name(node.func)
    if isinstance(node, ast.Subscript):
        return _last_name(node.value)
    return node.id if isinstance(node, ast.Name) else ""
