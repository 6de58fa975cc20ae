"""From a plan to artifacts: what to compute, where, and in which order."""
