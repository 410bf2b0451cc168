// room Token
