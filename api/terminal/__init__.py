"""How runs look in a terminal.

    look        colours, symbols and words; text made safe to print
    tree        a run and its sub-agents
    lines       an event as one line
    questions   questions to people, in words; what was spent
    tables      receipts, lists, and JSON within bounds
    screen      where a run is shown while it goes on

What agents and strangers wrote is shown as text alone: control characters are taken out of it,
which could otherwise move the cursor or repaint what was said before.
"""

from __future__ import annotations

from api.terminal.lines import line_of as line_of
from api.terminal.lines import say_line as say_line
from api.terminal.look import AMBER as AMBER
from api.terminal.look import GREEN as GREEN
from api.terminal.look import GREY as GREY
from api.terminal.look import RED as RED
from api.terminal.look import chip as chip
from api.terminal.look import clean as clean
from api.terminal.look import clock_of as clock_of
from api.terminal.look import elapsed as elapsed
from api.terminal.look import open_console as open_console
from api.terminal.look import style_of as style_of
from api.terminal.look import time_of as time_of
from api.terminal.questions import QUESTION as QUESTION
from api.terminal.questions import asked_by as asked_by
from api.terminal.questions import question_block as question_block
from api.terminal.questions import usage_words as usage_words
from api.terminal.screen import Screen as Screen
from api.terminal.screen import open_screen as open_screen
from api.terminal.tables import agents_table as agents_table
from api.terminal.tables import error_block as error_block
from api.terminal.tables import json_block as json_block
from api.terminal.tables import print_end as print_end
from api.terminal.tables import print_json as print_json
from api.terminal.tables import receipt_table as receipt_table
from api.terminal.tables import runs_table as runs_table
from api.terminal.tables import took as took
from api.terminal.tree import Node as Node
from api.terminal.tree import RunTree as RunTree
