"""Tables and what hangs on them.

table   one array of records in pages that know whether they changed
index   open-addressing lookups over table rows; derived, never hashed
alarms  a heap over ledger time: who is due next
root    the state root over all pages, and snapshots as pages
manifest   a state in pieces that travel and are checked one by one
"""
