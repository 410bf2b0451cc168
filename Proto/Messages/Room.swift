// room Messages
