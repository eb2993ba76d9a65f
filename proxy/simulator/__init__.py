"""A Talon.One to run against: for the demo, for our tests, for a shop's own CI.

It answers every operation of the Integration API, and the v1 routes of old SDKs, with the shapes, the merge rules and
the errors of the real one, and it keeps Talon.One's rule for parallel calls to the letter: of one session or one
profile one call runs, two wait, every further one is refused with 409. A journal tells tests which calls arrived, in
which order, and which of them ran at the same time. FIDELITY.md tells how true each behaviour is.

    what somebody set up                                                      pure
    rulebook      campaigns, programs, attributes (rulebook_effects: what rules give; unknowns: switches)
    rulebook_file TOML in, a rule book or all its problems out; rules.toml is the built-in one

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

    turns         who runs, who waits, who is refused
    journal       what happened, in order
    server        HTTP on sockets: `Simulator`
    command       `talon-proxy simulate`
"""
