// room Digest
