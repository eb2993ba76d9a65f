"""A shop, its proxies, a simulated Talon.One and a real Prometheus with the rules of `deploy/`, all on loopback.

`python -m tests.observing` (`make observe`) keeps it running to look at; `tests/test_observing.py` does the same for
some seconds and asks Prometheus every question of the dashboard, the rules and the alerts.
"""
