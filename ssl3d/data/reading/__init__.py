"""Reading the files of data sets: tables of labels, NIfTI, and .npy."""
