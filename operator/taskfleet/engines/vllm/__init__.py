"""vLLM, 0.32 and later."""
