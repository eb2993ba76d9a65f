"""talon-proxy: a sidecar that storefront backends call instead of Talon.One. This is the map of its code.

The walk of a call:

    wire.downstream  bytes → Call: head checked, body complete
    reception        fields.read, callers.check, routes.classify, credentials.authorise    pure, no await
    pipeline         a Flight is made                                                       its deadline runs
    traffic          attempts.begin: the current generation's pool gives a connection, or the flight waits for one;
                     the request is signed, with a key of that generation, and sent in the step in which it has one
    wire.http1       bytes → Reply, or an error that knows whether anything was sent
    traffic          a failure before the first byte is tried again; else the flight lands
    pipeline         errors.to_reply where it failed; the caller's own header lines
    wire.downstream  Reply → bytes, in the order of the calls; observe reads the Timeline once

Rooms: `wire` is HTTP on sockets and knows nothing of Talon.One. `talon` is what is known of Talon.One, pure. `traffic`
decides when a call may go, and opens no socket. `observe` is what operators see. `settings` are read whole; `assembly`
makes parts and rules of them, and `app` puts the parts together; nothing is global but remembered spellings
(`wire.fieldtable`, bounded).
`commands` are what is typed at a terminal, one module each; `simulator` is a Talon.One to run against.
Imports point one way: messages, errors ← wire, talon ← traffic ← pipeline ← app; `wire` and `observe` know neither
`talon` nor `traffic` (tests/test_shape.py).

What changes while it runs: `target` says where calls shall go, `verification` whether that is Talon.One and takes our
keys, `upstream` swaps one generation (URL, `keyset`, pool) for another in one step. `switching` is the one place that
does so: asked by operators, by `reloading` (files `watching` sees change), or at a `planned` moment.

No flight and no call has a task: they move in the steps in which something happens. Tasks are for what takes its own
time: opening a connection, a reply too large to hold, a reload or a switch, the stop.

What always holds (design numbers; 2 to 4 belong to the lanes):

1. From the last byte of a call to its place among the flights there is no await.
5. Every call is answered exactly once, or its caller has left, and with its own answer.
6. A key is in no log, metric, error, status or repr, and is sent only to the host of its generation.
7. Order survives a switch of the upstream, a reload, a rotation and a retry.
8. Nothing hop-by-hop crosses; end-to-end fields keep order, case and repeats; target and body bytes cross unchanged.
9. Memory is bounded: heads, bodies, replies, calls per connection, connections and what is remembered have limits.
10. Every task has an owner and a name. Metric labels come from closed sets.
"""

__version__ = "0.1.0"
