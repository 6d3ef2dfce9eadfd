"""The model: tokenizer, vocabulary, base weights, adapters, their precision and their ancestry."""
