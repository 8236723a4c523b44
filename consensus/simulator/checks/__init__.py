"""The checker's rules, by what they look at; `consensus.simulator.checker` calls them.

violations.py    what is raised when a rule is broken, and what is counted
states.py        roots and epochs, as honest states have them
certificates.py  quorums and signatures, counted once more
durable.py       what must be on a disk before a vote leaves
order.py         receive times
votes.py         one vote a place; nothing contradicts what was committed; view changes hide nothing
"""
