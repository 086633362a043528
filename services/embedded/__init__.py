"""Everything on one machine: the process tree, the time master and the demo."""
