"""One effective batch into gradients, and the loop around it."""
