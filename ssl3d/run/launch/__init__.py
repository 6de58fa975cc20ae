"""Starting workers: on this machine or under Slurm."""
