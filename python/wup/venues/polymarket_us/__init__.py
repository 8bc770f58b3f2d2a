"""Polymarket US: only the grammar of its ids, for labelled pairs. There is no adapter yet."""
