// room Store
