"""Settings that are accepted and checked, but that nothing reads yet.

Whoever builds what reads one takes it off this list; `config check` then stops saying that it is without effect.
"""

PENDING: tuple[str, ...] = ()
