"""From recipe to run folder: training, checkpoints, report."""
