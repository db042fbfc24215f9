"""The engines that answer with real models: llama.cpp and WordLlama."""
