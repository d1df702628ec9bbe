"""`recurra bench`: ours beside its peers, timed in turn in one process, once all are seen to compute the same."""
