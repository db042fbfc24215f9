"""What the four LangChain classes are made of."""
