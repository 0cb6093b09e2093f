"""One file per data format; each turns a file or folder into :class:`~rewardhub.bench.items.Item` records."""
