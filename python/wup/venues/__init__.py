"""Venues: one folder each, registered in `wup.venues.registry`."""
