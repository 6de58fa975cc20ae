"""AUCs with errors over patients and seeds; intervals, tests, resamples. Loads neither torch nor scikit-learn."""
