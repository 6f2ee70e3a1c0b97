"""A model of how pilots claim, settle and reap, explored exhaustively."""
