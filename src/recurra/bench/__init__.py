"""`recurra bench`: ours beside each peer, timed in turn in one process, once it is checked that all compute the same."""
