"""The folder that is put on the path of a vLLM which a card starts; every process of it imports ``sitecustomize``."""
