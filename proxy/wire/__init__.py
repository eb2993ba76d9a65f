"""HTTP on sockets; knows nothing of Talon.One. See `proxy/__init__.py` for the map."""
