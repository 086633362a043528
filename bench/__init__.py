"""One module per figure, each measured against its rival in the same run."""
