"""Why every order operation came out as it did, in words: a block is executed again, one step at a time.

    stepping    the order loop, stopped before and after each operation of interest
    sentences   one table: a code, and the sentence with the values that were compared
    look        what an operation finds: market, funds, book, its own order
    explain     `Explainer`: blocks in, explanations out. Read first

Nothing here is part of the replicated state, and nothing on the ledger's path calls it. An `Explainer`
executes with the ledger's own kernels, so its journal roots are those that validators attested, or it
was given other blocks.
"""
