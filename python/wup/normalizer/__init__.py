"""Venue truth: raw records to exact, checked, normalised messages.

`engine` is the whole of it, without I/O; `service` gives it a bus and a clock; `followed` and `legs` hold
what is followed and in which state; `showing` says it, `deadlines` is what time alone decides; `encode`
writes the messages of wire.md section 2 that have no levels.
"""
