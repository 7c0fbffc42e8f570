"""Socket.IO 5 over Engine.IO 4, for clients that speak nothing else.

``packets`` is how things are said, ``engine`` the sessions, over long polls or a WebSocket,
``recovery`` what is kept of one whose connection broke, ``conversation`` what is said in one, and
``calls`` the calls through which it comes. What events mean is not known here: whoever offers some
passes a ``Listener`` to ``blueprint``.
"""

from api.socketio.calls import blueprint as blueprint
from api.socketio.conversation import Conversation as Conversation
from api.socketio.conversation import Listener as Listener
