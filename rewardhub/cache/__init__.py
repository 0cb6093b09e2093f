"""The cache of dear scorer results: keys, memory, Redis, single flight."""
