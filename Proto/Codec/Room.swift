// room Codec
