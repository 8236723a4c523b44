"""European options, as a plugin of another package: the example of docs/plugins.md.

    commands    what clients may ask for
    tables      rows, and the lists that link them
    plugin      `OptionsPlugin`: rules of each command, settlement at a block's end, laws

The venue lists series: a strike and a cap in ticks of a market, and an expiry. With the cap above the strike
a lot pays what the price is above the strike, at most cap − strike; with the cap below, what it is below,
at most strike − cap. Writers offer lots for a premium, and the most that they may lose goes into escrow at
once, so nobody ever owes anything and there is no margin. At expiry all is settled at the mark price.

Nothing rounds: every amount is a whole number of ticks times lots times quote units.
"""
