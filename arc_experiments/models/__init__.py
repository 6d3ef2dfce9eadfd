"""Models: tokenizer and vocabulary, and in which precision they compute.

Base models and adapters are imported from `models.loading` and `models.adapters`: transformers' models and PEFT take
seconds, which tokens alone need not wait for.
"""
