"""Telling others when a run has ended: over HTTP as Standard Webhooks, or by mail.

rules       who wants to be told of what; the file that says so
message     what is sent, and what is kept of it until it has arrived
outbox      the durable outbox: written with the end of a run, emptied in the background
schedule    which deliveries are due, and which of them may go now
sending     one attempt over HTTP
addresses   where webhooks may go: the address is checked that the connection goes to
mail        one attempt over SMTP
calls       ``/webhooks/deliveries``
"""

from __future__ import annotations

from api.webhooks.addresses import Networks as Networks
from api.webhooks.outbox import Outbox as Outbox
from api.webhooks.rules import BadWebhooksFile as BadWebhooksFile
from api.webhooks.rules import Rules as Rules
from api.webhooks.rules import read_rules as read_rules
