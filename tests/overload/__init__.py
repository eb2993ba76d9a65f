"""More calls than Talon.One can take, and crowds of callers who say nothing or too little: `make overload`.

`open_loop` makes calls at a rate, whatever becomes of them; `crowd` are connections that only take room; `figures`
judges. The origin is a process of its own, so that it and the generator share no loop.
"""
