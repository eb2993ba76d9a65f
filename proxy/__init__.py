"""talon-proxy: a sidecar that storefront backends call instead of Talon.One. This is the map of its code.

The walk of a call:

    wire.downstream  bytes → Call: head checked, body complete
    reception        fields.read, callers.check, routes.classify, credentials.authorise    pure, no await
    pipeline         a Flight is made; keys.names says what it names
    traffic.lanes    one synchronous decision: it joins a flight with the same fingerprint, or follows the writes of its
                     session and profile; a read is open to others until a write of what it reads comes or lands
    traffic.flights  nobody ahead: gates (shared profiles, dry calls), then
    traffic.attempts begin: the current generation's pool gives a connection, or the flight waits for one; the request
                     is signed and sent in the step in which it has a connection
    wire.pool        opens ahead of demand: names → egress (an address, a proxy's tunnel) → dialing (TLS)
    wire.http1,      bytes → Reply, or an error that knows whether anything was sent; ALPN says which of the two
    wire.http2
    traffic.attempts retries says whether it is tried again, its place kept; else the flight lands
    pipeline         errors.to_reply where it failed; each caller's own header lines
    wire.downstream  Reply → bytes, in the order of the calls; observe reads the Timeline once
    traffic.lanes    the flight is done, and those behind it go on; later, where nobody knows what became of it

Rooms: `wire` is HTTP on sockets and knows nothing of Talon.One. `talon` is what is known of Talon.One, pure. `traffic`
decides when a call may go, and opens no socket. `observe` is what operators see. `settings` are read whole; `assembly`
makes parts and rules of them, and `app` puts the parts together; nothing is global but remembered spellings
(`wire.fieldtable`, bounded). `commands` are what people type; `simulator` is a Talon.One to run against. Imports point
one way: messages, errors ← wire, talon ← traffic ← pipeline ← app ← commands; `wire` and `observe` know neither `talon`
nor `traffic` (tests/test_shape.py).

What changes while it runs: `target` says where calls shall go, `verification` whether that is Talon.One and takes our
keys, `upstream` swaps one generation (URL, `keyset`, pool) for another in one step. `switching` is the one place that
does so: asked by operators, by `reloading` (files `watching` sees change), or at a `planned` moment.

What is looked at beside the walk: `checking` holds calls that have ended against Talon.One's integration checklist. The
rules are `talon.checklist`, pure; `observe.checklist` counts, in slices of time, what looks at calls have shown.

What operators are told: `report` of the traffic, `overview` of the upstream and the settings, `bulletin` of everything.

What always holds (the numbers of design §7; tests/test_traffic_machine.py walks at random and looks after every step):

1. From the last byte of a call to its place in line there is no await.
2. At most one flight of a lane is between SENT and DONE; the writes of one lane reach Talon.One in the order of their
   admission. At most three flights are inside the gate of a shared profile.
3. Only the joinable tail common to all lanes of a write is joined. No call gets the answer of a read that began before
   a write on its keys was admitted or landed, if that happened before the call arrived.
4. A flight keeps its place until it is DONE. One that nobody wants is not sent, unless it decides what becomes of an
   order; one that was sent ends by its answer, its time-out or hold, or the last deadline of the shutdown.
5. Every call is answered exactly once, or its caller has left, and with its own answer.
6. A key is in no log, metric, error, status or repr, and is sent only to the host of its generation.
7. Order survives a switch of the upstream, a reload, a rotation and a retry.
8. Nothing hop-by-hop crosses; end-to-end fields keep order, case and repeats; target and body bytes cross unchanged.
   `Accept-Encoding` alone is reduced to what can be read here.
9. Memory is bounded: heads, bodies, replies, calls per connection, connections, lanes, gates, open reads and what is
   remembered of sessions have limits, and what is idle disappears; so has what the checklist remembers.
10. Every task has an owner and a name. Metric labels come from closed sets.
"""

__version__ = "0.1.0"
