"""Starting workers: on this machine, under Slurm, or on a Ray cluster."""
