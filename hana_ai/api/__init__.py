"""Together AI as a model provider of SAP's Generative AI Toolkit for SAP HANA Cloud, and of LangChain."""
