"""Packages are listed one by one: hana_ai itself belongs to SAP's toolkit and has no __init__.py here."""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithDocuments(build_py):
    """Packs the documents that `hana-ai-together demo` reads; an editable install reads those of the checkout."""

    def run(self):
        super().run()
        if self.editable_mode:
            return
        folder = Path(self.build_lib, "hana_ai", "api", "cli", "documents")
        self.mkpath(str(folder))
        for page in (Path("README.md"), *sorted(Path("docs").glob("*.md"))):
            self.copy_file(str(page), str(folder / page.name))


setup(
    cmdclass={"build_py": BuildWithDocuments},
    packages=[
        "hana_ai.api",
        "hana_ai.api.addresses",
        "hana_ai.api.batches",
        "hana_ai.api.cache",
        "hana_ai.api.catalog",
        "hana_ai.api.cli",
        "hana_ai.api.connector",
        "hana_ai.api.errors",
        "hana_ai.api.hana",
        "hana_ai.api.hana.cluster",
        "hana_ai.api.hana.ingest",
        "hana_ai.api.hana.mapping",
        "hana_ai.api.langchain",
        "hana_ai.api.local",
        "hana_ai.api.local.hana",
        "hana_ai.api.local.hana.catalog",
        "hana_ai.api.local.hana.engine",
        "hana_ai.api.local.hana.language",
        "hana_ai.api.local.hana.protocol",
        "hana_ai.api.local.hana.script",
        "hana_ai.api.local.hana.translation",
        "hana_ai.api.local.hana.translation.functions",
        "hana_ai.api.local.together",
        "hana_ai.api.local.together.api",
        "hana_ai.api.local.together.api.batches",
        "hana_ai.api.local.together.api.evaluations",
        "hana_ai.api.local.together.api.files",
        "hana_ai.api.local.together.api.fine_tunes",
        "hana_ai.api.local.together.api.management",
        "hana_ai.api.local.together.engines",
        "hana_ai.api.local.together.scripted",
        "hana_ai.api.routing",
        "hana_ai.api.routing.startup",
        "hana_ai.api.storage",
        "hana_ai.api.transport",
        "hana_ai.api.usage",
        "hana_ai.api.wire",
        # Namespace packages of other projects, too: neither has an __init__.py.
        "plugins.connectors",
    ],
    package_data={
        "hana_ai.api": ["py.typed"],
        "hana_ai.api.cli": ["report.css"],
        "hana_ai.api.hana": ["drawing.css", "drawing.js"],
        "hana_ai.api.local.together": ["contract.json"],
        "hana_ai.api.wire": ["html_page.css"],
    },
)
