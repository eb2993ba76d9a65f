"""Writes through the proxy to a Talon.One that misbehaves, from callers who leave: `python -m tests.chaos`.

Of a hundred exchanges one is reset, one answered in part, one comes with an answer nobody asked for, and now and then
an idle connection is closed; of a hundred callers one leaves. Every call has a nonce, which is echoed. What must hold
whatever happens is in `found`, after edge-cases.md F.
"""
