// room Http
