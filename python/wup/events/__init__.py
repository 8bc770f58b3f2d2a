"""The event service: `discovery` asks the venues, `publisher` writes the mapping, `http` answers, `service`
puts them together."""
