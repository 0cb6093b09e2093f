"""Where scorers run: lanes with bounded queues, worker processes, deadlines."""
