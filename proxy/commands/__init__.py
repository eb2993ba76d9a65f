"""The commands, one module each; `proxy.cli` imports the one that is asked for.

`main(arguments, environ)` runs it and gives its exit code: 0, 1 it failed while running, 2 usage or settings.
"""
