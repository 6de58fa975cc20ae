"""Reading what data sets come as: tables of labels, NIfTI, and .npy."""
