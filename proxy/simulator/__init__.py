"""A Talon.One to run against: for the demo, for our tests, for a shop's own CI.

It answers the Integration API calls a shop makes most with the shapes, the merge rules and the errors of
the real one, and it keeps Talon.One's rule for parallel calls to the letter: of one session or one profile
one call runs, two wait, every further one is refused with 409. A journal tells tests which calls arrived, in
which order, and which of them ran at the same time.

    turns       who runs, who waits, who is refused                       no HTTP
    problems    the errors it tells its callers                           pure
    payload     what a caller sent, checked                               pure
    rules       the built-in campaigns: which effects a cart earns        pure
    world       sessions and profiles: merge, states, redemptions         pure
    answers     how the world looks in JSON                               pure
    operations  from a call to what it will do                            no HTTP
    journal     what happened, in order
    server      HTTP on sockets: `Simulator`
    command     `talon-proxy simulate`

Not simulated, and answered with 404: returns, reopening, loyalty endpoints, audiences, referrals, the
Management API.
"""
