"""The checker's rules, by what they look at; `consensus.simulator.checker` calls them.

violations.py    what is raised when a rule is broken, and what is counted
states.py        roots and epochs, as honest states have them
certificates.py  quorums and signatures, counted once more
durable.py       what must be on a disk before a vote leaves
order.py         receive times
votes.py         one vote a place; nothing contradicts what was committed; view changes hide nothing

Which mutant of `consensus.simulator.mutants` shows that a rule can fail:

a state goes back, or a replica comes back behind its word: new_view_rewinds,
    view_lowered_at_restart, fsync_lies, checksums_ignored
too many entries, or anything else that grows: never_erases, stash_unbounded
one vote a place: vote_forgotten_at_restart, second_proposal_accepted
what is committed stays; nobody votes against it: new_view_of_nulls, new_view_unchecked
a new view takes what is prepared in the highest view: new_view_takes_lowest_view
a new view stands on n−f view changes: new_view_of_too_few
a view change hides no lock: view_change_hides_prepared, view_change_forgets_older_views
votes, locks, payloads, checkpoints are durable first: vote_not_persisted,
    certificate_not_persisted, payloads_not_stored, checkpoint_not_persisted
view changes and new views are durable first: view_change_not_persisted, new_view_not_persisted
a proof of each epoch is kept: epoch_proof_not_kept
a quorum signed each certificate: quorum_off_by_one, quorum_2f_plus_1, checkpoint_unchecked
no two blocks are prepared at one place: votes_of_any_digest
only a place's validators vote there: votes_above_the_boundary, wedge_ignored, removed_still_counts
equal heights have equal roots, and attested ones: hash_order_execution, root_invented
only stored blocks run, each batch once: block_not_stored, repeats_run_again
nobody holds proof against honest replicas: signatures_unchecked
receive times: order_unchecked
everything gets done in the end: never_complains, never_resumes, never_serves_states

The replica's own invariants stop some before the checker can: votes_while_fetching,
prepared_without_payloads, retired_votes, epoch_unproven, stored_blocks_not_run, torn_commit_kept.
No mutant has yet broken these rules, as others are broken first: an honest replica acts in a view
that it left, commits another block than others, attests what is not durable, or votes where its
certificate is for another block; a new view loses a committed block; honest states tell of
different epochs.
"""
