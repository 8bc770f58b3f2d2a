"""The same real gateway that the gateway's tests use."""

from gateway.conftest import bus, dial, engine, gateway, start

__all__ = ["bus", "dial", "engine", "gateway", "start"]
