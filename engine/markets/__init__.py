"""Markets: what is listed, on which terms, and what may be done there now.

plugin   listing, fees, status: the commands
states   market states, and the one table of what each allows
"""
