"""Wire kits that more than one deployable speaks."""
