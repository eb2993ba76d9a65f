"""What parallel updates cost a shop: calling Talon.One directly, through nginx, and through one or more proxies.

`python -m tests.conflicts` plays the same shop against the simulator each way and prints what its customers met;
`python -m tests.conflicts.hotkey` shows that one busy session does not slow the others.
"""
