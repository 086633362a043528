"""The driver's receipt: a file that proves by itself what was metered, what it cost and where that was settled."""
