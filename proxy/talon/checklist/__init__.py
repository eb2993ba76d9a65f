"""The integration checklist of Talon.One, asked of a shop's own calls (facts §14). Pure.

    rule       what a rule is: point, severity, least sample, text, remedy, and its question
    names      what may be shown of names; caller  what header fields say of who calls
    facts      one call and its answer, as rules see them
    past       what is remembered, bounded and hashed
    planning, sessions, performance, answers      the rules
    table      all of them, in the checklist's order
    examiner   looks at a call: facts, rules, then the past learns
    records    what one proxy has counted, as a file says it
    verdicts   what the counts of one proxy, or of several, say

It only looks: nothing in here can change, delay or refuse a call.
"""
