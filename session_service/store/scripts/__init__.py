"""The catalogue of Lua scripts: one a file in ``lua/``, one an operation, each declared once.

A script gets no more than it needs: a key costs Redis about 0.7 us a call, and a shared function
0.2 us, because scripts are run from their start each time. Each command costs about a microsecond,
besides its work.

Under ``maxmemory`` Redis refuses a script at its first write that takes memory. Scripts that create
something begin with such a write, so they fail before they have changed anything; scripts that end
something do not, so they still work when memory is full.

In a script on a whole shard SESSION and MESSAGES are prefixes, to which a session's id is added.
"""
