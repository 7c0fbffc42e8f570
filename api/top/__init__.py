"""``quiesce top``: the runs of a server, live in a terminal.

    link      one server: its calls and its streams
    board     what is known of its runs; pure
    follow    the streams, and how far what they told can be trusted
    words     runs as lines of text
    rows      a list of which only what can be seen is drawn
    panel     where a stop is asked for
    acting    what can be asked of the run under the cursor
    runs      the screen of all runs
    one       the screen of one run
    app       all of it together

Textual lives on asyncio, and so does everything here; nothing of Trio's runs in this process. What
a run looks like, how a stream is read and what a refusal means is shared with the other commands.
"""
