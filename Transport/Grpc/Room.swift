// room Grpc
