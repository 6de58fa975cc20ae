"""AUCs with their error over patients and seeds; intervals, tests, resamples. Loads neither torch nor scikit-learn."""
