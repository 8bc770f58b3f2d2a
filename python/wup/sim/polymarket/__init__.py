"""The simulated Polymarket: frames, book hash, conversation, REST."""
