// room Engine
