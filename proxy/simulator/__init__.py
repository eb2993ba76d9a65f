"""A Talon.One to run against: for the demo, for our tests, for a shop's own CI.

It answers the Integration API calls a shop makes most with the shapes, the merge rules and the errors of
the real one, and it keeps Talon.One's rule for parallel calls to the letter: of one session or one profile
one call runs, two wait, every further one is refused with 409. A journal tells tests which calls arrived, in
which order, and which of them ran at the same time.

    what Talon.One does
    turns         who runs, who waits, who is refused                         no HTTP
    problems      the errors it tells its callers                             pure
    payload       what a caller sent, checked                                 pure
    rules         the built-in campaigns: which effects a cart earns          pure
    world         sessions and profiles: merge, states, redemptions           pure
    answers       how the world looks in JSON                                 pure
    operations    from a call to what it will do                              no HTTP
    management    a sample of the Management API                              no HTTP
    idempotency   answers that are stored and given again

    whose it is
    keys          which Application and which world a key opens               pure
    applications  Applications as somebody writes them down                   pure
    clock         the time of day, real or set
    faults        what goes wrong, on demand                                  pure
    journal       what happened, in order
    deployments   a world and all that belongs to it; the worlds by name

    how it is served
    visits        one call on its way through a deployment                    no sockets
    connections   HTTP on sockets, and callers who leave
    delivery      the answer on its way out, or the fault instead
    control       what testers ask, under /-/                                 no sockets
    tls           an authority and a certificate
    server        all of it on a port: `Simulator`
    command       `talon-proxy simulate`

README.md is for those who test with it.

Not simulated, and answered with 404: returns, reopening, loyalty endpoints, audiences, referrals.
"""
