// room Relay
