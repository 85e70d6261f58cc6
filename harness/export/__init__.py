"""A finished run as a folder that transformers loads: weights, configuration, the modelling file, a tokenizer, a README."""
