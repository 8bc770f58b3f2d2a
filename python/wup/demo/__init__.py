"""`wup demo`: simulated venues, all stages, a verifying client and a live ladder."""
