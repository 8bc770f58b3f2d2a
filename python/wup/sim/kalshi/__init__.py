"""The simulated Kalshi: frames, conversation, signature check, REST."""
