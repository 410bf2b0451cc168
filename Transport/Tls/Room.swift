// room Tls
