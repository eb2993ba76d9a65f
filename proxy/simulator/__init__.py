"""A Talon.One to run against: for the demo, for our tests, for a shop's own CI.

It answers every operation of the Integration API, and the v1 routes of old SDKs, with the shapes, the merge rules and
the errors of the real one, and it keeps Talon.One's rule for parallel calls to the letter: of one session or one
profile one call runs, two wait, every further one is refused with 409. A journal tells tests which calls arrived, in
which order, and which of them ran at the same time.

    what somebody set up                                                      pure
    rulebook      campaigns, programs, attributes (rulebook_effects: what rules give; unknowns: switches)
    rulebook_file TOML in, a rule book or all its problems out; rules.toml is the built-in one
    keys          which Application and which world a key opens; applications  as somebody writes them down

    what callers send                                                         pure
    checks        one value, where it stands                                  problems  the errors they are told
    payload       bodies about sessions, customers, events                    payload_loyalty  the others
    attributes    declared, and of their type

    what there is                                                             pure
    world         by Application and environment: Site                        bounded   what was unused longest goes
    sessions, profiles, coupons, referrals, giveaways, achievements, audiences, cards, ledger, catalogs
    amounts, codes  exact decimals; codes made up

    what happens to it                                                        one synchronous step each
    rules         which effects a scene earns (scene, cart; rewards: one effect rule); changes nothing
    booking       what effects change, and undoing it (effects)
    lifecycle     sessions: update, try, return, reopen                       evaluation  what came of it
    customers     profiles, events, audiences                                 loyalty     programs and cards

    how it is asked and answered                                              no HTTP
    answers       the world in JSON (…_setup, …_codes, …_loyalty)
    operations    from a call to what it will do; calls, and the tables in …_calls
    management    a sample of the Management API

    what surrounds a world                                                    no HTTP
    turns         who runs, who waits, who is refused
    idempotency   answers that are stored and given again
    clock         the time of day, real or set
    faults        what goes wrong, on demand
    journal       what happened, in order
    deployments   a world and all that belongs to it; the worlds by name

    how it is served
    visits        one call on its way through a deployment                    no sockets
    connections   HTTP on sockets, and callers who leave
    delivery      the answer on its way out, or the fault instead
    control       what testers ask, under /-/                                 no sockets
    tls           an authority and a certificate
    server        all of it on a port: `Simulator`
    command       `talon-proxy simulate`; options  what its command line may say

README.md is for those who test with it, FIDELITY.md tells how true each behaviour is.
"""
